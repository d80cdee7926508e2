# SPDX-License-Identifier: Apache-2.0
"""The conformance harness: subjects, rigs, injectors, the collector, the comparison and its reports."""
