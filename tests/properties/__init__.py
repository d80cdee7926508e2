# SPDX-License-Identifier: Apache-2.0
"""Property tests: programs of packets that both exporters must meter alike."""
