# The same bindings, compiled for fibres of the CPU, and how many kernels those have run.
from pyfirstorder.backends._cuda import PADDING as PADDING
from pyfirstorder.backends._cuda import WIDE_OUTPUTS as WIDE_OUTPUTS
from pyfirstorder.backends._cuda import current_device as current_device
from pyfirstorder.backends._cuda import has_hopper_products as has_hopper_products
from pyfirstorder.backends._cuda import plan_float32 as plan_float32
from pyfirstorder.backends._cuda import plan_float64 as plan_float64
from pyfirstorder.backends._cuda import run_float32 as run_float32
from pyfirstorder.backends._cuda import run_float64 as run_float64
from pyfirstorder.backends._cuda import uses_hidden_space_float32 as uses_hidden_space_float32
from pyfirstorder.backends._cuda import uses_hidden_space_float64 as uses_hidden_space_float64
from pyfirstorder.backends._cuda import workspace_bytes_float32 as workspace_bytes_float32
from pyfirstorder.backends._cuda import workspace_bytes_float64 as workspace_bytes_float64

def launches() -> int: ...
