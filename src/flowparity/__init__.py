# SPDX-License-Identifier: Apache-2.0
"""flowparity: does a flow exporter report the same, right flows whatever framework hands it the packets?"""

__version__ = "0.1.0"
