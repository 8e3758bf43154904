"""The numeric work: only `@kernel` functions over floats and arrays, called by the modules one level up."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bools: TypeAlias = NDArray[np.bool_]
Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]
Int16Array: TypeAlias = NDArray[np.int16]
Int32Array: TypeAlias = NDArray[np.int32]
Int64Array: TypeAlias = NDArray[np.int64]
Records: TypeAlias = NDArray[Any]
"""Arrays of `solver.model.KEPLER`, `GLONASS_STATE` or another structure."""
Record: TypeAlias = Any
"""A row of such an array."""
