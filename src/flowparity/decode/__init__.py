# SPDX-License-Identifier: Apache-2.0
"""The decoder for verdicts: strict, small, and a witness of its own. It shares no code and no table with the encoders.

`Decoder().feed(payload, source)` gives a `Message`; `Normaliser().flows(message)` its Data Records as flows with absent fields None.
"""

from flowparity.decode.decoder import Decoder
from flowparity.decode.elements import Element, element
from flowparity.decode.model import DataRecord, Field, Header, Message, Problem, Set, Template, TemplateEvent, Value
from flowparity.decode.records import DecodedFlow, Normaliser
from flowparity.decode.values import render

__all__ = [
    "DataRecord",
    "DecodedFlow",
    "Decoder",
    "Element",
    "Field",
    "Header",
    "Message",
    "Normaliser",
    "Problem",
    "Set",
    "Template",
    "TemplateEvent",
    "Value",
    "element",
    "render",
]
