"""How much of their keys and values models over tokens carry; pure arithmetic on the settings."""

from fvcore.common.config import CfgNode

# Values of MODEL.MODEL_NAME.
TOKEN_MODELS = ("MViT", "TimeSformer")


def token_frames(cfg: CfgNode, frames: int) -> int:
    """Temporal positions of the tokens of so many frames."""
    if cfg.MODEL.MODEL_NAME != "MViT":
        return frames
    options = cfg.MVIT
    kernel, stride, padding = options.PATCH_KERNEL[0], options.PATCH_STRIDE[0], options.PATCH_PADDING[0]
    return (frames + 2 * padding - kernel) // stride + 1


def memory_frames(cfg: CfgNode) -> int:
    """Temporal positions of keys and values carried: PGT.ATTENTION_MEMORY, or what a later step lacks of the first,
    at least 1.
    """
    step, overlap = cfg.PGT.STEP_LEN[0], cfg.PGT.OVERLAP[0]
    return cfg.PGT.ATTENTION_MEMORY or max(1, token_frames(cfg, step) - token_frames(cfg, step - overlap))


def validate_memory(cfg: CfgNode) -> None:
    """The rules of PGT.ATTENTION_MEMORY.

    Raises:
        ValueError: with the key, its value and what it may be.
    """
    step, overlap = cfg.PGT.STEP_LEN[0], cfg.PGT.OVERLAP[0]
    first, later = token_frames(cfg, step), token_frames(cfg, step - overlap)
    if later < 1:
        raise ValueError(
            f"PGT.STEP_LEN {list(cfg.PGT.STEP_LEN)} with PGT.OVERLAP {list(cfg.PGT.OVERLAP)}: the {step - overlap} new "
            f"frames of a later step give no token (MVIT.PATCH_KERNEL {cfg.MVIT.PATCH_KERNEL}); lower the overlap"
        )
    if not 0 <= cfg.PGT.ATTENTION_MEMORY <= first:
        raise ValueError(
            f"PGT.ATTENTION_MEMORY is {cfg.PGT.ATTENTION_MEMORY}; the first step of {step} frames has {first} "
            "positions in time to remember, so it is from 1 to that, or 0 for as many as a later step has fewer"
        )
