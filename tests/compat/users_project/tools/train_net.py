"""A training loop."""

import pprint

import numpy as np
import torch

import slowfast.models.losses as losses
import slowfast.models.optimizer as optim
import slowfast.utils.checkpoint as cu
import slowfast.utils.distributed as du
import slowfast.utils.logging as logging
import slowfast.utils.metrics as metrics
import slowfast.utils.misc as misc
from slowfast.datasets import loader
from slowfast.models import build_model
from slowfast.utils.env import pathmgr
from slowfast.utils.meters import EpochTimer, TrainMeter, ValMeter

logger = logging.get_logger(__name__)


def train_epoch(train_loader, model, optimizer, train_meter, cur_epoch, cfg):
    model.train()
    train_meter.iter_tic()
    data_size = len(train_loader)
    loss_fun = losses.get_loss_func(cfg.MODEL.LOSS_FUNC)(reduction="mean")
    for cur_iter, (inputs, labels, _index, _time, meta) in enumerate(train_loader):
        if cfg.NUM_GPUS:
            for i in range(len(inputs)):
                inputs[i] = inputs[i].cuda(non_blocking=True)
            labels = labels.cuda()
            for key, val in meta.items():
                meta[key] = val.cuda(non_blocking=True)
        lr = optim.get_epoch_lr(cur_epoch + float(cur_iter) / data_size, cfg)
        optim.set_lr(optimizer, lr)
        train_meter.data_toc()
        preds = model(inputs)
        loss = loss_fun(preds, labels)
        misc.check_nan_losses(loss)
        optimizer.zero_grad()
        loss.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()

        num_topks_correct = metrics.topks_correct(preds, labels, (1, 5))
        top1_err, top5_err = [(1.0 - x / preds.size(0)) * 100.0 for x in num_topks_correct]
        if cfg.NUM_GPUS > 1:
            loss, top1_err, top5_err = du.all_reduce([loss, top1_err, top5_err])
        loss, top1_err, top5_err = loss.item(), top1_err.item(), top5_err.item()
        train_meter.iter_toc()
        train_meter.update_stats(top1_err, top5_err, loss, lr, grad_norm, inputs[0].size(0) * max(cfg.NUM_GPUS, 1))
        train_meter.log_iter_stats(cur_epoch, cur_iter)
        train_meter.iter_tic()
    train_meter.log_epoch_stats(cur_epoch)
    train_meter.reset()


@torch.no_grad()
def eval_epoch(val_loader, model, val_meter, cur_epoch, cfg):
    model.eval()
    val_meter.iter_tic()
    for cur_iter, (inputs, labels, _index, _time, _meta) in enumerate(val_loader):
        if cfg.NUM_GPUS:
            inputs = [pathway.cuda(non_blocking=True) for pathway in inputs]
            labels = labels.cuda()
        val_meter.data_toc()
        preds = model(inputs)
        top1_err, top5_err = metrics.topk_errors(preds, labels, (1, 5))
        if cfg.NUM_GPUS > 1:
            top1_err, top5_err = du.all_reduce([top1_err, top5_err])
        val_meter.iter_toc()
        val_meter.update_stats(top1_err.item(), top5_err.item(), inputs[0].size(0) * max(cfg.NUM_GPUS, 1))
        val_meter.update_predictions(preds, labels)
        val_meter.log_iter_stats(cur_epoch, cur_iter)
        val_meter.iter_tic()
    val_meter.log_epoch_stats(cur_epoch)
    val_meter.reset()


def train(cfg):
    du.init_distributed_training(cfg)
    np.random.seed(cfg.RNG_SEED)
    torch.manual_seed(cfg.RNG_SEED)
    logging.setup_logging(cfg.OUTPUT_DIR)
    logger.info("Train with config:")
    logger.info(pprint.pformat(cfg))
    pathmgr.mkdirs(cfg.OUTPUT_DIR)

    model = build_model(cfg)
    if du.is_master_proc() and cfg.LOG_MODEL_INFO:
        misc.log_model_info(model, cfg, use_train_input=True)
    optimizer = optim.construct_optimizer(model, cfg)
    start_epoch = cu.load_train_checkpoint(cfg, model, optimizer)
    train_loader = loader.construct_loader(cfg, "train")
    val_loader = loader.construct_loader(cfg, "val")
    train_meter = TrainMeter(len(train_loader), cfg)
    val_meter = ValMeter(len(val_loader), cfg)

    logger.info(f"Start epoch: {start_epoch + 1}")
    epoch_timer = EpochTimer()
    for cur_epoch in range(start_epoch, cfg.SOLVER.MAX_EPOCH):
        loader.shuffle_dataset(train_loader, cur_epoch)
        epoch_timer.epoch_tic()
        train_epoch(train_loader, model, optimizer, train_meter, cur_epoch, cfg)
        epoch_timer.epoch_toc()
        if cu.is_checkpoint_epoch(cfg, cur_epoch, None):
            cu.save_checkpoint(cfg.OUTPUT_DIR, model, optimizer, cur_epoch, cfg)
        if misc.is_eval_epoch(cfg, cur_epoch, None):
            eval_epoch(val_loader, model, val_meter, cur_epoch, cfg)
    logger.info(f"training done, best {100 - val_meter.min_top1_err:.2f}")
