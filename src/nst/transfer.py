"""`StyleTransfer`, the main class."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from nst._batch.map import BatchTransfer
from nst._engine.configuration import ColorWhen, RunOptions, take_weights
from nst._engine.inputs import RunInputs
from nst._engine.passing import copied
from nst._engine.run import Run, complete
from nst._engine.style_capture import capture_style
from nst._record.snapshot import take_snapshot
from nst._utils.device import plain_arithmetic
from nst._utils.text import logger
from nst.callbacks.base import CallbackLike, as_callbacks
from nst.estimate import Estimate, estimate_run
from nst.images import ImageLike, read_picture
from nst.presets import preset
from nst.result import StyleTransferResult
from nst.styles.mask import MaskLike
from nst.styles.style import Style, StyleLike


@dataclass(frozen=True, eq=False, repr=False)
class StyleTransfer(BatchTransfer):
    """Stylizes a photograph after a painting by optimizing its pixels.

    An optimizer minimizes the weighted sum of the losses, from a coarse scale to finer ones.
    Instances are immutable; `replace` returns a changed copy.

    Args:
        extractor: `FeatureExtractor`, or any module whose `forward(images, layers)` returns a
            mapping from layer to features. It is moved to the device. The default loads VGG19.
        losses: Losses by name. The default is
            `{"content": ContentLoss(weight=0.01), "style": GramStyleLoss(style_layers())}`.
        content_weight: Weight of the content loss, without `losses`. None is 0.01.
        style_weight: Weight of the style loss, without `losses`. None is 1.
        optimizer: `"lbfgs"` (within [0, 1]), `"adam"`, or a callable from the list of parameters
            to a `torch.optim.Optimizer`.
        learning_rate: Learning rate of Adam. None is 0.02.
        size: Longer side of the result in pixels, at most the photograph's; None uses that.
        upscale: Whether to enlarge a smaller photograph to `size` first.
        num_steps: Number of optimizer steps over all scales; more add contrast and longer strokes.
        num_scales: Number of scales, each twice as large as the previous one; `"auto"` starts at
            256 pixels or more. Before the last scale, content losses count threefold.
        average: Decay, below 1, of a moving average over the steps of a scale, which is then the
            result; 0.99 suits Adam. 0 returns the best picture.
        normalize_gradients: Whether to scale the gradient of each loss, in every step, to a mean
            absolute value of its weight. L-BFGS does not support it.
        tile: Rows of every block of the network to compute at a time: less memory, the same
            gradient, up to 1.5 times the time. None computes whole pictures; `"auto"` does so if
            there is enough free memory, and otherwise uses and logs 64 rows.
        device: `"auto"` (CUDA, else MPS, else CPU), or any device of PyTorch.

    Raises:
        ValueError: An unknown name or layer, a number out of range, no loss of positive weight, or
            `tile` with losses or a network that cannot be computed in parts.
        TypeError: An argument has a wrong type.

    Examples:
        >>> from nst.testing import tiny_extractor
        >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
        >>> photo, painting = torch.rand(1, 3, 32, 48), torch.rand(1, 3, 40, 40)
        >>> result = transfer.run(photo, painting)
        >>> tuple(result.image.shape), result.stop_reason
        ((1, 3, 32, 48), 'completed')
    """

    @classmethod
    def from_preset(
        cls,
        name: str = "default",
        extractor: nn.Module | None = None,
        *,
        motifs: float | None = None,
        **changes: Any,
    ) -> StyleTransfer:
        """Create a `StyleTransfer` from a named preset.

        | `name` | recipe | for |
        |---|---|---|
        | `"default"` | Gram matrices, relu5_1 at a hundredth of the other layers | any picture |
        | `"strokes"` | Wasserstein distances of relu1_1 to relu4_1 | strong brush strokes |
        | `"motifs"` | Gram matrices of five equal layers | swirls and patterns |
        | `"faithful"` | Gram matrices of relu1_1 to relu4_1, ten times the content | portraits |
        | `"gatys"` | Gatys et al. (2016), with the weights of their code | comparisons |

        Args:
            name: Name of the preset.
            extractor: As in `StyleTransfer`. The weights of `"gatys"` suit the original network;
                with torchvision's, a warning is logged.
            motifs: Weight of relu5_1, 0 to 1; see `style_layers`. None uses the preset's.
            **changes: Arguments of `StyleTransfer` that replace the preset's.

        Raises:
            ValueError: An unknown preset, or `motifs` with `"gatys"`.
        """
        arguments = preset(name, motifs)
        if "losses" not in changes:
            take_weights(arguments["losses"], changes)
        transfer = cls(**{**arguments, "extractor": extractor, **changes})
        if name == "gatys" and getattr(transfer.extractor, "weights", None) == "torchvision":
            message = "the weights of preset 'gatys' are for the original VGG19, not torchvision"
            logger.warning(message)
        return transfer

    def replace(self, **changes: Any) -> StyleTransfer:
        """Return a copy with other arguments, which shares the network and unchanged losses."""
        if "losses" not in changes and {"content_weight", "style_weight"} & changes.keys():
            changes["losses"] = {name: copied(name, each) for name, each in self.losses.items()}
            take_weights(changes["losses"], changes)
        return replace(self, **changes)

    @plain_arithmetic()
    def run(
        self,
        content: ImageLike,
        style: StyleLike,
        *,
        strength: float = 1.0,
        preserve_color: str | None = None,
        color_when: ColorWhen = "after",
        where: MaskLike | None = None,
        init: ImageLike = "content",
        seed: int = 0,
        callbacks: CallbackLike | Iterable[CallbackLike] | None = (),
    ) -> StyleTransferResult:
        """Stylize a photograph.

        If PyTorch has a default process group, its processes share the work. All must pass the same
        arguments, and all return the same result; only the first one calls the callbacks.

        Args:
            content: The photograph: a path, PIL image, array or tensor (see `load_image`). The
                pictures of a batch `(N, 3, H, W)` are stylized together, each as if alone.
            style: The painting, a `Style`, or a list of either to blend.
            strength: Style strength: 0 returns the photograph, 1 uses the weights of the losses.
                Losses that do not refer to the content are multiplied by its third power.
            preserve_color: Method to preserve the photograph's colors, a key of
                `nst.color.COLOR_METHODS`; None uses the colors of the style.
            color_when: Whether the styles get the photograph's colors `"before"` the run, the
                result `"after"` it, or `"both"`. Callbacks see the optimized picture.
            where: Mask of the pixels to change, as in `Style`: white is stylized, black is
                unchanged, gray is blended; `"alpha"` preserves transparent parts. None is all.
            init: Picture to start from: `"content"`, `"style"` (the first), `"noise"` or
                `"pink-noise"` (1/f) in the style's colors, `"gray"`, or a picture of any size.
            seed: Seed for random noise; global generators are not used.
            callbacks: `Callback` objects, or functions of the state to call after each step.

        Returns:
            The best picture at the finest scale reached, and the history. Ctrl-C ends the run
            early. An error after the first step has the result as its attribute `result`.

        Raises:
            FileNotFoundError: There is no file at a path.
            MemoryError: There is not enough memory.
            ValueError: A picture is unreadable, has a wrong shape or range, or is too small for the
                deepest layer; a number is out of range, a name unknown; a captured style does not
                fit the transfer; a loss cannot be divided among processes.
            RuntimeError: A process that shares the work has ended.
            TypeError: A picture, style or callback has a wrong type.
        """
        started = time.perf_counter()
        options = RunOptions(init, seed, strength, preserve_color, color_when, where)
        followers = as_callbacks(callbacks)
        inputs = RunInputs.read(self, content, style, options)
        return complete(Run(inputs, followers, started), take_snapshot)

    @plain_arithmetic()
    def check(self, content: ImageLike, style: StyleLike, **options: Any) -> None:
        """Raise what `run` would raise before it uses the network; without `callbacks`."""
        RunInputs.read(self, content, style, RunOptions.from_arguments("check", options))

    @plain_arithmetic()
    def synthesize(
        self,
        style: StyleLike,
        shape: Sequence[int] | None = None,
        *,
        init: ImageLike = "pink-noise",
        seed: int = 0,
        callbacks: CallbackLike | Iterable[CallbackLike] | None = (),
    ) -> StyleTransferResult:
        """Synthesize a texture: the style without a content (Gatys et al. 2015).

        Args:
            style: As in `run`, without regions.
            shape: Height and width in pixels, required for a captured style; by default those of
                the first style at `size`.
            init: As in `run`, except `"content"`.
            seed: Seed for random noise; another seed gives another texture.
            callbacks: As in `run`, as are the exceptions.

        Examples:
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
            >>> tuple(transfer.synthesize(torch.rand(1, 3, 40, 40), (32, 64)).image.shape)
            (1, 3, 32, 64)
        """
        started = time.perf_counter()
        if isinstance(init, str) and init == "content":
            raise ValueError("`init` is 'content', but a texture has none. Use 'pink-noise'.")
        options, followers = RunOptions(init, seed), as_callbacks(callbacks)
        inputs = RunInputs.read(self, None, style, options, shape)
        return complete(Run(inputs, followers, started), take_snapshot)

    @plain_arithmetic()
    def estimate(self, content: ImageLike, style: StyleLike | None = None) -> Estimate:
        """Estimate the time and memory of a run by measuring a step at a small size.

        The time assumes the current load of the machine, without callbacks and files. The memory is
        that of tensors, without temporary memory of PyTorch's operations. Arguments and errors are
        those of `run`; the default style is the photograph itself.
        """
        if style is None:
            style = read_picture(content, name="content").pixels[:1]
        return estimate_run(RunInputs.read(self, content, style))

    @plain_arithmetic()
    def capture(self, style: Style | ImageLike, sizes: Sequence[int] | None = None) -> Style:
        """Capture the statistics of a style that the losses compare with.

        The captured style gives bit-identical results in `run`; `Style.save` writes it to a file.

        Args:
            style: The painting, or a `Style`.
            sizes: Longer sides of the results at each scale, in pixels; others use the nearest, at
                most a factor of 1.41 away. By default the scales of `size`.

        Raises:
            ValueError: A style loss is not a `StatisticLoss`; `sizes` and `size` are None; the
                painting is too small or unreadable.

        Examples:
            >>> from nst.testing import tiny_extractor
            >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
            >>> captured = transfer.capture(torch.rand(1, 3, 40, 40), sizes=[32])
            >>> tuple(transfer.run(torch.rand(1, 3, 32, 24), captured).image.shape)
            (1, 3, 32, 24)
        """
        return capture_style(self, style if isinstance(style, Style) else Style(style), sizes)

    def __repr__(self) -> str:
        lines = [
            f"extractor={type(self.extractor).__name__}({self.extractor.extra_repr()})",
            *(f"{name}={loss!r}" for name, loss in self.losses.items()),
            f"optimizer={self.optimizer!r}, size={self.size}, num_steps={self.num_steps}, "
            f"num_scales={self.num_scales!r}, tile={self.tile!r}, device={str(self.device)!r}",
        ]
        return "StyleTransfer(\n  " + ",\n  ".join(lines) + ",\n)"
