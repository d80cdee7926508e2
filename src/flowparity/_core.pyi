# SPDX-License-Identifier: Apache-2.0
# The extension module that CMake builds from native/include (cffi, API mode).
from typing import Any

lib: Any
ffi: Any
