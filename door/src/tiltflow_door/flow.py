"""The name by which portals and Prefect deployments start the BRT flow: `em_workflows.brt.flow:brt_flow`."""

from tiltflow_flows.brt import brt_flow

__all__ = ["brt_flow"]
