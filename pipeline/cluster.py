"""Ray, started quietly on this machine if no cluster is connected yet."""

import logging
import os

_STORE_BYTES = 256 << 20
"""media stay outside the object store, so that it can be small"""


def start_ray(num_cpus: int | None = None, object_store_bytes: int = _STORE_BYTES) -> None:
    """Start Ray on this machine, unless it is initialised or an address of a cluster is set.

    num_cpus: None takes all. There is no dashboard and no usage report; Ray's own authentication
    of connections (a token, on by default) stays as it is.
    """
    import ray

    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if "RAY_ADDRESS" in os.environ:
            ray.init(logging_level=logging.ERROR, log_to_driver=False)
        else:
            ray.init(
                address="local",  # not to some other cluster that was left running here
                num_cpus=num_cpus,
                include_dashboard=False,
                object_store_memory=object_store_bytes,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    _configure_ray_data()


def usable(resource: str) -> float:
    """How much of a resource, CPU or GPU, the connected cluster has."""
    import ray

    return float(ray.cluster_resources().get(resource, 0.0))


def _configure_ray_data() -> None:
    """No bars and banners of its own, and no bad block ends a run: rows carry their verdicts."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    context.execution_options.preserve_order = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
