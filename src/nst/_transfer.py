"""`StyleTransfer`: the loop that repaints a picture, and what it returns."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from nst._callbacks import Callback, CallbackLike, LossHistory, RunState, as_callback
from nst._canvas import Canvas
from nst._features import FeatureExtractor
from nst._losses import Loss
from nst._objective import Objective
from nst._optimizers import OptimizerLike, optimizer_factory
from nst._presets import preset
from nst._result import StyleTransferResult
from nst._scales import NumScales, plan_scales
from nst._style import Style, StyleLike, as_styles
from nst.images import ImageLike, Picture, fit, read_picture, resize

__all__ = ["StyleTransfer"]

logger = logging.getLogger("nst")

_INITS = ("content", "noise", "style")


class StyleTransfer:
    """Repaints a photograph in the manner of a painting, by optimizing the picture itself.

    The objective is the sum of the losses, each times its weight. Bounded L-BFGS or another
    optimizer lowers it from a clone of the photograph, first at a coarse scale, then at finer ones.

    Args:
        extractor: A `FeatureExtractor`, or any module whose `forward(images, layers)` returns a
            mapping from layer (and `"image"`) to features. The default loads VGG19.
        losses: Name to loss; the names appear in logs, history and errors. The default is
            `{"content": ContentLoss(weight=0.02), "style": GramStyleLoss()}`.
        optimizer: `"lbfgs"` (within [0, 1]), `"adam"` (learning rate 0.02), or a callable
            from the list of parameters to a `torch.optim.Optimizer`.
        size: The longer side of the result in pixels; a smaller photograph keeps its own size.
            None keeps every size.
        num_steps: Optimizer steps over all scales.
        num_scales: How many scales, each twice as large as the one before; `"auto"` starts at 256
            pixels or more.
        device: `"auto"` (CUDA, else MPS, else CPU), or what `torch.device` takes.

    Raises:
        ValueError: An unknown name, a number out of range, unknown layers, no losses, or losses
            that all weigh 0.
        TypeError: A loss is not a `Loss`, or an argument is of a wrong type.

    Examples:
        >>> from nst.testing import tiny_extractor
        >>> transfer = StyleTransfer(tiny_extractor(), num_steps=3)
        >>> photo, painting = torch.rand(1, 3, 32, 48), torch.rand(1, 3, 40, 40)
        >>> result = transfer.run(photo, painting)
        >>> tuple(result.image.shape), result.stop_reason
        ((1, 3, 32, 48), 'completed')
    """

    def __init__(
        self,
        extractor: nn.Module | None = None,
        losses: Mapping[str, Loss] | None = None,
        *,
        optimizer: OptimizerLike = "lbfgs",
        size: int | None = 512,
        num_steps: int = 160,
        num_scales: NumScales = "auto",
        device: str | torch.device = "auto",
    ) -> None:
        self.optimizer = optimizer
        self._factory = optimizer_factory(optimizer)
        self.size = None if size is None else _at_least("size", size, 1)
        self.num_steps = _at_least("num_steps", num_steps, 1)
        self.num_scales = (
            num_scales if num_scales == "auto" else _at_least("num_scales", num_scales, 1)
        )
        self.device = _resolve_device(device)
        self.losses = _check_losses(preset("default")["losses"] if losses is None else losses)
        self.extractor = (FeatureExtractor() if extractor is None else extractor).to(self.device)
        if isinstance(self.extractor, FeatureExtractor):
            for loss in self.losses.values():
                self.extractor.check_layers(loss.layers)

    @classmethod
    def from_preset(
        cls, name: str = "default", extractor: nn.Module | None = None, **changes: Any
    ) -> StyleTransfer:
        """Make a `StyleTransfer` from a named recipe.

        Args:
            name: `"default"`, the best picture found for the time, or `"gatys"`, the recipe of
                Gatys et al. (2016): relu4_2 and relu1_1 to relu5_1, Gram matrices in absolute
                units, one scale; with 500 steps of Adam from a clone of the content. The weights
                are those of the authors' own code, for the original network.
            extractor: As in `StyleTransfer`.
            **changes: Arguments of `StyleTransfer` that replace the preset's.

        Raises:
            ValueError: An unknown preset.

        Examples:
            >>> from nst.testing import tiny_extractor
            >>> StyleTransfer.from_preset("gatys", tiny_extractor(), num_steps=300).num_steps
            300
        """
        return cls(extractor, **{**preset(name), **changes})

    def run(
        self,
        content: ImageLike,
        style: StyleLike,
        *,
        init: ImageLike = "content",
        seed: int = 0,
        callbacks: Iterable[CallbackLike] = (),
    ) -> StyleTransferResult:
        """Repaint a photograph.

        The transfer itself is not changed: it can be run again, with other pictures.

        Args:
            content: The photograph: a path, PIL image, array or tensor (see `load_image`). The
                pictures of a batch `(N, 3, H, W)` are stylized together, each as if alone.
            style: The painting, a `Style`, or a list of either to blend.
            init: What the picture starts as: `"content"`, `"style"` (the first), `"noise"`, or a
                picture, which is brought to the content's size.
            seed: Makes the noise; no global generator is touched.
            callbacks: `Callback` objects, or functions of the state that are called each step.

        Returns:
            The best picture seen at the finest scale reached, and how it came about. Ctrl-C ends
            the run early with that as the reason.

        Raises:
            FileNotFoundError: There is no file at a path.
            ValueError: A picture cannot be read, has a wrong shape or range, or is too small for
                the deepest layer.
            TypeError: A picture, style or callback is of a wrong type.
        """
        start = time.perf_counter()
        history = LossHistory()
        followers: list[Callback] = [history, *map(as_callback, callbacks)]
        photo = self._read(content, "content")
        styles = as_styles(style)
        paintings = self._read_styles(styles)
        longer = max(photo.pixels.shape[-2:])
        size = longer if self.size is None else min(self.size, longer)
        final = fit(photo.pixels.shape[-2:], size)
        scales = plan_scales(size, self.num_steps, self.num_scales)
        self._check_sizes(photo.pixels, paintings, scales[0].size)
        first = self._first_picture(init, photo.pixels, paintings[0], seed)
        canvases = [
            Canvas(picture[None], beginning[None])
            for picture, beginning in zip(photo.pixels, first, strict=True)
        ]
        state = RunState(
            image=resize(first, fit(first.shape[-2:], scales[0].size)),
            num_steps=self.num_steps,
            num_scales=len(scales),
        )
        with ExitStack() as stack:
            for callback in followers:
                callback.on_start(state)
                stack.callback(callback.on_end, state)
            try:
                for state.scale, scale in enumerate(scales):
                    if state.stop_reason is None:
                        objective = self._style_objective(paintings, styles, scale.size)
                        for canvas in canvases:
                            canvas.start_scale(objective.copy(), scale.size, self._factory)
                        self._optimize(canvases, scale.num_steps, state, followers)
            except KeyboardInterrupt:
                state.stop("interrupted")
            except Exception as error:
                state.stop(f"failed: {type(error).__name__}")
                raise
            finally:
                state.stop(_join_reasons(canvases))
                state.image = torch.cat([resize(canvas.best, final) for canvas in canvases])
        assert state.stop_reason is not None
        logger.info("%s after %d steps", state.stop_reason, state.step)
        return StyleTransferResult(
            image=state.image.cpu(),
            history=history.losses,
            num_steps=state.step,
            stop_reason=state.stop_reason,
            seconds=time.perf_counter() - start,
            settings=self._settings(styles, init, seed),
            content=resize(photo.pixels, final).cpu(),
            styles=[resize(painting, size).cpu() for painting in paintings],
            alpha=None if photo.alpha is None else resize(photo.alpha, final).cpu(),
        )

    def _optimize(
        self,
        canvases: Sequence[Canvas],
        num_steps: int,
        state: RunState,
        callbacks: Sequence[Callback],
    ) -> None:
        """Take the steps of one scale."""
        for _ in range(num_steps):
            active = [canvas for canvas in canvases if canvas.active]
            if state.stop_reason is not None or not active:
                break
            for canvas in active:
                canvas.step()
            state.step += 1
            state.losses = _mean_losses(active)
            state.image = torch.cat([canvas.pixels.detach() for canvas in canvases])
            for callback in callbacks:
                callback.on_step(state)
        for canvas in canvases:
            canvas.finish_scale()

    def _check_sizes(self, content: Tensor, paintings: Sequence[Tensor], size: int) -> None:
        """Refuse pictures that are too small for the network before anything is begun."""
        if isinstance(self.extractor, FeatureExtractor):
            layers = {layer for loss in self.losses.values() for layer in loss.layers}
            pictures = {"content": content}
            pictures |= {f"style[{i}]": painting for i, painting in enumerate(paintings)}
            for name, picture in pictures.items():
                height, width = fit(picture.shape[-2:], size)
                self.extractor.check_size(height, width, layers, name=name)

    def _style_objective(
        self, paintings: Sequence[Tensor], styles: Sequence[Style], size: int
    ) -> Objective:
        """Make the objective of one scale, with the styles captured and the content still open."""
        objective = Objective(self.extractor, self.losses)
        images = [resize(painting, size) for painting in paintings]
        objective.capture("style", images, [style.weight for style in styles])
        for loss in objective.losses.values():
            loss.to(images[0])
        return objective

    def _read(self, source: ImageLike, name: str) -> Picture:
        picture = read_picture(source, name=name)
        parameter = next(self.extractor.parameters(), torch.empty(0))
        pixels = picture.pixels.to(self.device, parameter.dtype)
        return Picture(pixels, None if picture.alpha is None else picture.alpha.to(pixels))

    def _read_styles(self, styles: Sequence[Style]) -> list[Tensor]:
        paintings = [self._read(s.image, f"style[{i}]").pixels for i, s in enumerate(styles)]
        for i, painting in enumerate(paintings):
            if len(painting) != 1:
                raise ValueError(
                    f"`style[{i}]` is a batch of {len(painting)} pictures; a style is one picture. "
                    "Pass a list to blend several, for example list(images.split(1))."
                )
        return paintings

    def _first_picture(
        self, init: ImageLike, content: Tensor, painting: Tensor, seed: int
    ) -> Tensor:
        if isinstance(init, str) and init == "content":
            return content
        shape = (content.shape[-2], content.shape[-1])
        if isinstance(init, str) and init == "noise":
            # Drawn on the CPU and the same for each picture of a batch: a picture depends on
            # neither the device nor its neighbors.
            generator = torch.Generator().manual_seed(seed)
            noise = torch.rand(1, 3, *shape, generator=generator)
            return noise.to(content).expand_as(content)
        if isinstance(init, str) and init == "style":
            picture = painting
        else:
            picture = self._read(init, "init").pixels
        if len(picture) not in (1, len(content)):
            raise ValueError(
                f"`init` has {len(picture)} pictures for {len(content)} contents. "
                "Pass one, or one for each."
            )
        return resize(picture, shape).expand_as(content)

    def _settings(self, styles: Sequence[Style], init: ImageLike, seed: int) -> dict[str, Any]:
        from nst import __version__

        return {
            "nst": __version__,
            "torch": torch.__version__,
            "extractor": _describe(self.extractor),
            "losses": {name: _describe(loss) for name, loss in self.losses.items()},
            "styles": [{"weight": style.weight} for style in styles],
            "optimizer": _optimizer_name(self.optimizer),
            "size": self.size,
            "num_steps": self.num_steps,
            "num_scales": self.num_scales,
            "init": init if isinstance(init, str) and init in _INITS else "picture",
            "seed": seed,
            "device": str(self.device),
            "num_threads": torch.get_num_threads(),
        }

    def __repr__(self) -> str:
        """Document the recipe."""
        lines = [
            f"extractor={self.extractor.__class__.__name__}({self.extractor.extra_repr()})",
            *(f"{name}={loss!r}" for name, loss in self.losses.items()),
            f"optimizer={self.optimizer!r}, size={self.size}, num_steps={self.num_steps}, "
            f"num_scales={self.num_scales!r}, device={str(self.device)!r}",
        ]
        return "StyleTransfer(\n  " + ",\n  ".join(lines) + ",\n)"


def _check_losses(losses: Mapping[str, Loss]) -> dict[str, Loss]:
    if not isinstance(losses, Mapping):
        raise TypeError(
            f"`losses` is a {type(losses).__name__}; give each loss a name, as in "
            "{'content': ContentLoss(), 'style': GramStyleLoss()}."
        )
    for name, loss in losses.items():
        if not isinstance(loss, Loss):
            raise TypeError(
                f"`losses[{name!r}]` is {loss!r}; it must be an nst.Loss (an instance). "
                "Derive your own from StatisticLoss, PointwiseLoss or Loss."
            )
        if not loss.weight >= 0:
            raise ValueError(
                f"`losses[{name!r}].weight` is {loss.weight}; it must not be negative."
            )
    if not any(loss.weight for loss in losses.values()):
        raise ValueError(
            "`losses` has nothing to optimize; at least one loss must weigh more than 0."
        )
    return dict(losses)


def _at_least(argument: str, value: object, lowest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{argument}` is {value!r}; a whole number is needed.")
    if value < lowest:
        raise ValueError(f"`{argument}` is {value}; it must be at least {lowest}.")
    return value


def _resolve_device(device: str | torch.device) -> torch.device:
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)  # a known name may still be out of reach
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"`device` is {str(device)!r}, which cannot be used here "
            f"({str(error).splitlines()[0]}). Use 'auto' or 'cpu'."
        ) from error
    return resolved


def _mean_losses(canvases: Sequence[Canvas]) -> dict[str, Tensor]:
    return {
        name: torch.stack([canvas.losses[name] for canvas in canvases]).mean()
        for name in canvases[0].losses
    }


def _join_reasons(canvases: Sequence[Canvas]) -> str:
    """Say why a run that nobody stopped is over."""
    reasons = [canvas.failure or canvas.stall or "completed" for canvas in canvases]
    if len(set(reasons)) == 1:
        return reasons[0]
    return "; ".join(f"picture {i}: {reason}" for i, reason in enumerate(reasons))


def _optimizer_name(optimizer: OptimizerLike) -> str:
    return optimizer if isinstance(optimizer, str) else getattr(optimizer, "__qualname__", "custom")


def _describe(part: nn.Module) -> dict[str, Any]:
    """Return a part's name and the arguments that would make it again, as far as it tells them."""
    settings = (
        part.settings()
        if isinstance(part, (Loss, FeatureExtractor))
        else {"repr": part.extra_repr()}
    )
    return {"type": type(part).__name__, **settings}
