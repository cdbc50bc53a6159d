"""A test over several views of each video."""

import numpy as np
import torch

import slowfast.utils.checkpoint as cu
import slowfast.utils.distributed as du
import slowfast.utils.logging as logging
import slowfast.utils.misc as misc
from slowfast.datasets import loader
from slowfast.models import build_model
from slowfast.utils.meters import TestMeter

logger = logging.get_logger(__name__)


@torch.no_grad()
def perform_test(test_loader, model, test_meter, cfg):
    model.eval()
    test_meter.iter_tic()
    for cur_iter, (inputs, labels, video_idx, _time, _meta) in enumerate(test_loader):
        if cfg.NUM_GPUS:
            inputs = [pathway.cuda(non_blocking=True) for pathway in inputs]
            labels, video_idx = labels.cuda(), video_idx.cuda()
        test_meter.data_toc()
        preds = model(inputs)
        if cfg.NUM_GPUS > 1:
            preds, labels, video_idx = du.all_gather([preds, labels, video_idx])
        preds, labels, video_idx = preds.cpu(), labels.cpu(), video_idx.cpu()
        test_meter.iter_toc()
        test_meter.update_stats(preds.detach(), labels.detach(), video_idx.detach())
        test_meter.log_iter_stats(cur_iter)
        test_meter.iter_tic()
    test_meter.finalize_metrics()
    return test_meter


def test(cfg):
    du.init_distributed_training(cfg)
    np.random.seed(cfg.RNG_SEED)
    torch.manual_seed(cfg.RNG_SEED)
    logging.setup_logging(cfg.OUTPUT_DIR)
    model = build_model(cfg)
    if du.is_master_proc() and cfg.LOG_MODEL_INFO:
        misc.log_model_info(model, cfg, use_train_input=False)
    cu.load_test_checkpoint(cfg, model)
    test_loader = loader.construct_loader(cfg, "test")
    logger.info(f"Testing model for {len(test_loader)} iterations")
    views = cfg.TEST.NUM_ENSEMBLE_VIEWS * cfg.TEST.NUM_SPATIAL_CROPS
    assert test_loader.dataset.num_videos % views == 0
    test_meter = TestMeter(
        test_loader.dataset.num_videos // views,
        views,
        cfg.MODEL.NUM_CLASSES,
        len(test_loader),
        cfg.DATA.MULTI_LABEL,
        cfg.DATA.ENSEMBLE_METHOD,
    )
    perform_test(test_loader, model, test_meter, cfg)
