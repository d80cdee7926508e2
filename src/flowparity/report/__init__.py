# SPDX-License-Identifier: Apache-2.0
"""What people and programs read of a comparison: the matrix, HTML, JUnit, JSON."""
