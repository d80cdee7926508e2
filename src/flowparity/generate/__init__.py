# SPDX-License-Identifier: Apache-2.0
"""Traffic that we make ourselves: captures of the fixtures, and seeded streams whose expected records are known in closed form."""
