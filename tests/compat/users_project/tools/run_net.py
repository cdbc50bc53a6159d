"""Train and test, by the settings of YAML files."""

import mycode  # noqa: F401 (registers MyNet and Mydata)
from test_net import test
from train_net import train

from slowfast.config.defaults import assert_and_infer_cfg
from slowfast.utils.misc import launch_job
from slowfast.utils.parser import load_config, parse_args


def main():
    args = parse_args()
    print(f"config files: {args.cfg_files}")
    for path_to_config in args.cfg_files:
        cfg = load_config(args, path_to_config)
        cfg = assert_and_infer_cfg(cfg)
        if cfg.TRAIN.ENABLE:
            launch_job(cfg=cfg, init_method=args.init_method, func=train)
        if cfg.TEST.ENABLE:
            launch_job(cfg=cfg, init_method=args.init_method, func=test)


if __name__ == "__main__":
    main()
