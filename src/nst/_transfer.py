"""`StyleTransfer`: the loop that repaints a picture, and what it returns."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from nst._callbacks import Callback, CallbackLike, LossHistory, as_callbacks
from nst._checks import at_least, one_of
from nst._device import resolve_device
from nst._features import FeatureExtractor
from nst._job import INITS, Job
from nst._loop import end, join_reasons, optimize
from nst._losses import Loss
from nst._objective import Objective
from nst._optimizers import OptimizerLike, optimizer_factory
from nst._presets import preset
from nst._result import StyleTransferResult
from nst._scales import NumScales
from nst._style import Style, StyleLike
from nst.images import ImageLike, resize

__all__ = ["StyleTransfer"]

logger = logging.getLogger("nst")


class StyleTransfer:
    """Repaints a photograph in the manner of a painting, by optimizing the picture itself.

    The objective is the sum of the losses, each times its weight. Bounded L-BFGS or another
    optimizer lowers it from a clone of the photograph, first at a coarse scale, then at finer ones.

    Args:
        extractor: A `FeatureExtractor`, or any module whose `forward(images, layers)` returns a
            mapping from layer to features. It is moved to the device. The default loads VGG19.
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
        optimizer_factory(optimizer)  # refuses a wrong one now rather than when it is run
        self.size = None if size is None else at_least("size", size, 1)
        self.num_steps = at_least("num_steps", num_steps, 1)
        if isinstance(num_scales, str):
            one_of("num_scales", num_scales, ["auto"])
        else:
            num_scales = at_least("num_scales", num_scales, 1)
        self.num_scales = num_scales
        self.device = resolve_device(device)
        self.losses = _check_losses(preset("default")["losses"] if losses is None else losses)
        extractor = FeatureExtractor() if extractor is None else extractor
        if not isinstance(extractor, nn.Module):
            raise TypeError(
                f"`extractor` is {extractor!r}; it must be a FeatureExtractor, or a module with "
                "forward(images, layers) that returns features by layer."
            )
        self.extractor = extractor.to(self.device)
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
        transfer = cls(extractor, **{**preset(name), **changes})
        weights = getattr(transfer.extractor, "weights", "original")
        if name == "gatys" and weights == "torchvision":
            logger.warning(
                "the weights of preset 'gatys' are for the original VGG19, not %s", weights
            )
        return transfer

    @torch.inference_mode(False)
    def run(
        self,
        content: ImageLike,
        style: StyleLike,
        *,
        init: ImageLike = "content",
        seed: int = 0,
        callbacks: CallbackLike | Iterable[CallbackLike] = (),
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
            callbacks: `Callback` objects, or functions of the state that are called each step; one
                or several.

        Returns:
            The best picture seen at the finest scale reached, and how it came about. Ctrl-C ends
            the run early with that as the reason.

        Raises:
            FileNotFoundError: There is no file at a path.
            ValueError: A picture cannot be read, has a wrong shape or range, or is too small for
                the deepest layer.
            TypeError: A picture, style or callback is of a wrong type.
        """
        start, history = time.perf_counter(), LossHistory()
        followers = [history, *as_callbacks(callbacks)]
        _check_losses(self.losses)  # their weights may have been changed
        job = Job.prepare(
            content,
            style,
            init,
            at_least("seed", seed, 0),
            extractor=self.extractor,
            losses=self.losses,
            device=self.device,
            size=self.size,
            num_steps=self.num_steps,
            num_scales=self.num_scales,
        )
        state = job.state
        with ExitStack() as stack:
            try:
                for callback in followers:
                    callback.on_start(state)
                    stack.callback(end, callback, state)
                self._paint(job, followers)
            except KeyboardInterrupt:
                state.stop("interrupted")
            except BaseException as error:
                state.stop(f"failed: {type(error).__name__}")
                raise
            finally:
                state.stop(join_reasons(job.canvases))
                state.image = job.best()
        logger.info("%s after %d steps", state.stop_reason, state.step)
        settings = self._settings(job.styles, init, seed)
        return _result(job, history, settings, time.perf_counter() - start)

    def _paint(self, job: Job, callbacks: Sequence[Callback]) -> None:
        """Go through the scales, until they are done or somebody stops the run."""
        state = job.state
        for state.scale, scale in enumerate(job.scales):
            if state.stop_reason is not None:
                return
            objective = Objective(self.extractor, self.losses)
            objective.capture_styles(job.regions_at(scale.size))
            for canvas in job.canvases:
                canvas.start_scale(objective.copy(), scale.size, optimizer_factory(self.optimizer))
            optimize(job.canvases, scale.num_steps, state, callbacks)

    def _settings(self, styles: Sequence[Style], init: ImageLike, seed: int) -> dict[str, Any]:
        from nst import __version__

        return {
            "nst": __version__,
            "torch": torch.__version__,
            "extractor": _describe(self.extractor),
            "losses": {name: _describe(loss) for name, loss in self.losses.items()},
            "styles": [_describe_style(style, styles) for style in styles],
            "optimizer": _optimizer_name(self.optimizer),
            "size": self.size,
            "num_steps": self.num_steps,
            "num_scales": self.num_scales,
            "init": init if isinstance(init, str) and init in INITS else "picture",
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


def _result(
    job: Job, history: LossHistory, settings: dict[str, Any], seconds: float
) -> StyleTransferResult:
    alpha = job.photo.alpha
    return StyleTransferResult(
        image=job.best().cpu(),  # not the one shown to callbacks, which is theirs to change
        history=history.losses,
        num_steps=job.state.step,
        stop_reason=str(job.state.stop_reason),
        seconds=seconds,
        settings=settings,
        content=resize(job.photo.pixels, job.shape).cpu(),
        styles=[painting.pixels.cpu() for painting in job.paintings_at(max(job.shape))],
        alpha=None if alpha is None else resize(alpha, job.shape).cpu(),
    )


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


def _describe_style(style: Style, styles: Sequence[Style]) -> dict[str, Any]:
    """Return what is not as usual about a style, and its weight; regions are numbered."""
    described: dict[str, Any] = {"weight": style.weight}
    if style.region is not None:
        keys = list(dict.fromkeys(each.region_key for each in styles if each.region is not None))
        described["region"] = keys.index(style.region_key)
    if style.mask is not None:
        described["mask"] = True
    if style.scale != 1:
        described["scale"] = style.scale
    if style.rotation != 0:
        described["rotation"] = style.rotation
    return described


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
