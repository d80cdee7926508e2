# SPDX-License-Identifier: Apache-2.0
"""Programs of others that looked at the same packets, or at our export: each gives packets and octets by 5-tuple, by means of its own."""
