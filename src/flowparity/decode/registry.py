# SPDX-License-Identifier: Apache-2.0
"""The elements of the IANA IPFIX registry that exporters use, for the decoder alone: number, name, abstract data type, data type semantics.

Types are keys of `elements.TYPE_SIZES`, semantics of `elements.SEMANTICS`.
"""

TABLE = """
