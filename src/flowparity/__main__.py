# SPDX-License-Identifier: Apache-2.0
"""`python -m flowparity` is the command `flowparity`."""

from flowparity.cli import main

main()
