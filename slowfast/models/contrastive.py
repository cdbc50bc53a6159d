"""Build contrastive models: a backbone with a projection, and the method around it."""

from fvcore.common.config import CfgNode
from torch import nn

from slowfast.config.resolve import backbone_name
from slowfast.layers.mlp import ProjectionMlp
from slowfast.models.base import VideoModel
from slowfast.models.build import MODEL_REGISTRY, mlp_norm
from slowfast.models.contrastive_methods import BYOL, ContrastiveModel, MoCo, SimCLR, SwAV
from slowfast.models.heads import Classifier
from slowfast.utils.registry import CHOICES

CHOICES["CONTRASTIVE.TYPE"] = ("mem", "moco", "byol", "simclr", "swav")


@MODEL_REGISTRY.register("ContrastiveModel", num_pathways=0, task="contrastive")
def build_contrastive_model(cfg: CfgNode) -> ContrastiveModel:
    """Build the model of CONTRASTIVE.TYPE around the network that MODEL.ARCH names.

    Raises:
        ValueError: CONTRASTIVE.TYPE mem, or a backbone without a head for clips.
    """
    options, backbone = cfg.CONTRASTIVE, _build_backbone(cfg)
    common = (options.T, options.SEQUENTIAL, options.DIM, options.KNN_ON)
    if options.TYPE == "simclr":
        return SimCLR(backbone, *common, everywhere=options.SIMCLR_DIST_ON)
    if options.TYPE == "swav":
        return SwAV(backbone, *common, queue_len=options.SWAV_QEUE_LEN)
    if options.TYPE == "mem":
        raise ValueError(
            "CONTRASTIVE.TYPE mem, a memory bank of all videos, cannot be trained by the published code either (its "
            "training loop and model disagree on what the model returns); set moco, byol, simclr or swav"
        )
    momentum = {
        "momentum": options.MOMENTUM,
        "annealing": options.MOMENTUM_ANNEALING,
        "max_epoch": cfg.SOLVER.MAX_EPOCH,
        "queue_len": options.QUEUE_LEN,
        # Synchronized statistics tell nothing of who shares a process.
        "shuffle": "" if cfg.BN.NORM_TYPE == "sync_batchnorm" else "host" if options.LOCAL_SHUFFLE_BN else "all",
    }
    if options.TYPE == "byol":
        return BYOL(backbone, _build_backbone(cfg), *common, **momentum)
    return MoCo(backbone, _build_backbone(cfg), *common, all_views=options.MOCO_MULTI_VIEW_QUEUE, **momentum)


def _build_backbone(cfg: CfgNode) -> VideoModel:
    """Build the network of MODEL.ARCH with a projection, and perhaps a predictor, in its head."""
    options = cfg.CONTRASTIVE
    if backbone_name(cfg) == cfg.MODEL.MODEL_NAME:
        raise ValueError(
            f"MODEL.ARCH {cfg.MODEL.ARCH} names no network that MODEL.MODEL_NAME ContrastiveModel can be built around; "
            "set one of ResNet, SlowFast, X3D or MViT, such as slow, slowfast, x3d or mvit"
        )
    inner = cfg.clone()
    inner.defrost()
    inner.MODEL.MODEL_NAME, inner.MODEL.NUM_CLASSES, inner.MODEL.HEAD_ACT = backbone_name(cfg), options.DIM, "none"
    backbone = MODEL_REGISTRY.get(inner.MODEL.MODEL_NAME)(inner)
    head = getattr(backbone, "head", None)
    if not isinstance(head, Classifier) or head.takes_boxes:
        raise ValueError(f"MODEL.ARCH {cfg.MODEL.ARCH} has no head for clips, so no projection fits it")
    norm = mlp_norm(cfg, options.BN_SYNC_MLP) if options.BN_MLP else None
    if options.NUM_MLP_LAYERS > 1:
        head.projection = ProjectionMlp(
            head.projection.in_features, options.MLP_DIM, options.DIM, options.NUM_MLP_LAYERS, norm
        )
    if options.PREDICTOR_DEPTHS:
        head.predictors = nn.ModuleList(
            ProjectionMlp(options.DIM, options.MLP_DIM, options.DIM, depth, norm) for depth in options.PREDICTOR_DEPTHS
        )
    return backbone
