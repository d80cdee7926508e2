# SPDX-License-Identifier: Apache-2.0
"""The decoder's own Information Elements (RFC 7012, the IANA IPFIX registry), reverse elements included (RFC 5103).

Written for the decoder alone and shared with no encoder, so that an error here cannot cancel out an error there; a test holds it against other tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from flowparity.decode.registry import TABLE

IANA = 0
REVERSE = 29305
"""The enterprise number of reverse elements (RFC 5103 §6.1)."""

VARIABLE = 65535
"""Field Length of a variable-length field (RFC 7011 §7)."""

TYPE_SIZES: dict[str, int | None] = {
    "u8": 1,
    "u16": 2,
    "u32": 4,
    "u64": 8,
    "s8": 1,
    "s16": 2,
    "s32": 4,
    "s64": 8,
    "f32": 4,
    "f64": 8,
    "bool": 1,
    "mac": 6,
    "ipv4": 4,
    "ipv6": 16,
    "sec": 4,
    "ms": 8,
    "us": 8,
    "ns": 8,
    "octets": None,
    "string": None,
    "list": None,
}
"""Natural size in octets of each abstract data type (RFC 7011 §6.1); None = any length.

sec, ms, us and ns are the dateTime types; list stands for the three structured ones.
"""

REDUCIBLE = frozenset({"u16", "u32", "u64", "s16", "s32", "s64", "f64"})
"""Types that may be sent in fewer octets (RFC 7011 §6.2)."""


@dataclass(frozen=True, slots=True)
class Element:
    """One Information Element. `type` is a key of TYPE_SIZES, `semantics` a letter, a key of SEMANTICS."""

    pen: int
    number: int
    name: str
    type: str
    semantics: str
    known: bool = True

    @property
    def size(self) -> int | None:
        """Natural size in octets; None when it may have any length."""
        return TYPE_SIZES[self.type]

    @property
    def reverse(self) -> bool:
        """Whether it describes the reverse direction of a Biflow (RFC 5103)."""
        return self.pen == REVERSE

    def permits(self, length: int) -> bool:
        """Whether a Field Length is legal for the element in IPFIX (RFC 7011 §6.2, §7)."""
        size = self.size
        if size is None or not self.known:
            return True
        if length == size:
            return True
        if self.type == "f64":
            return length == 4
        return self.type in REDUCIBLE and 0 < length < size


SEMANTICS = {"q": "quantity", "t": "totalCounter", "d": "deltaCounter", "i": "identifier", "f": "flags", "l": "list", "-": "default"}

1 octetDeltaCount u64 d
2 packetDeltaCount u64 d
3 deltaFlowCount u64 d
4 protocolIdentifier u8 i
5 ipClassOfService u8 i
6 tcpControlBits u16 f
7 sourceTransportPort u16 i
8 sourceIPv4Address ipv4 -
9 sourceIPv4PrefixLength u8 -
10 ingressInterface u32 i
11 destinationTransportPort u16 i
12 destinationIPv4Address ipv4 -
13 destinationIPv4PrefixLength u8 -
14 egressInterface u32 i
15 ipNextHopIPv4Address ipv4 -
16 bgpSourceAsNumber u32 i
17 bgpDestinationAsNumber u32 i
18 bgpNextHopIPv4Address ipv4 -
19 postMCastPacketDeltaCount u64 d
20 postMCastOctetDeltaCount u64 d
21 flowEndSysUpTime u32 -
22 flowStartSysUpTime u32 -
23 postOctetDeltaCount u64 d
24 postPacketDeltaCount u64 d
25 minimumIpTotalLength u64 -
26 maximumIpTotalLength u64 -
27 sourceIPv6Address ipv6 -
28 destinationIPv6Address ipv6 -
29 sourceIPv6PrefixLength u8 -
30 destinationIPv6PrefixLength u8 -
31 flowLabelIPv6 u32 i
32 icmpTypeCodeIPv4 u16 i
33 igmpType u8 i
34 samplingInterval u32 q
35 samplingAlgorithm u8 i
36 flowActiveTimeout u16 -
37 flowIdleTimeout u16 -
38 engineType u8 i
39 engineId u8 i
40 exportedOctetTotalCount u64 t
41 exportedMessageTotalCount u64 t
42 exportedFlowRecordTotalCount u64 t
43 ipv4RouterSc ipv4 -
44 sourceIPv4Prefix ipv4 -
45 destinationIPv4Prefix ipv4 -
46 mplsTopLabelType u8 i
47 mplsTopLabelIPv4Address ipv4 -
48 samplerId u8 i
49 samplerMode u8 i
50 samplerRandomInterval u32 q
51 classId u8 i
52 minimumTTL u8 -
53 maximumTTL u8 -
54 fragmentIdentification u32 i
55 postIpClassOfService u8 i
56 sourceMacAddress mac -
57 postDestinationMacAddress mac -
58 vlanId u16 i
59 postVlanId u16 i
60 ipVersion u8 i
61 flowDirection u8 i
62 ipNextHopIPv6Address ipv6 -
63 bgpNextHopIPv6Address ipv6 -
64 ipv6ExtensionHeaders u32 f
70 mplsTopLabelStackSection octets -
71 mplsLabelStackSection2 octets -
72 mplsLabelStackSection3 octets -
73 mplsLabelStackSection4 octets -
74 mplsLabelStackSection5 octets -
75 mplsLabelStackSection6 octets -
76 mplsLabelStackSection7 octets -
77 mplsLabelStackSection8 octets -
78 mplsLabelStackSection9 octets -
79 mplsLabelStackSection10 octets -
80 destinationMacAddress mac -
81 postSourceMacAddress mac -
82 interfaceName string -
83 interfaceDescription string -
84 samplerName string -
85 octetTotalCount u64 t
86 packetTotalCount u64 t
87 flagsAndSamplerId u32 i
88 fragmentOffset u16 q
89 forwardingStatus u8 i
90 mplsVpnRouteDistinguisher octets -
91 mplsTopLabelPrefixLength u8 q
92 srcTrafficIndex u32 i
93 dstTrafficIndex u32 i
94 applicationDescription string -
95 applicationId octets -
96 applicationName string -
98 postIpDiffServCodePoint u8 i
99 multicastReplicationFactor u32 q
100 className string -
101 classificationEngineId u8 i
128 bgpNextAdjacentAsNumber u32 i
129 bgpPrevAdjacentAsNumber u32 i
130 exporterIPv4Address ipv4 -
131 exporterIPv6Address ipv6 -
132 droppedOctetDeltaCount u64 d
133 droppedPacketDeltaCount u64 d
134 droppedOctetTotalCount u64 t
135 droppedPacketTotalCount u64 t
136 flowEndReason u8 i
137 commonPropertiesId u64 i
138 observationPointId u64 i
139 icmpTypeCodeIPv6 u16 i
140 mplsTopLabelIPv6Address ipv6 -
141 lineCardId u32 i
142 portId u32 i
143 meteringProcessId u32 i
144 exportingProcessId u32 i
145 templateId u16 i
146 wlanChannelId u8 i
147 wlanSSID string -
148 flowId u64 i
149 observationDomainId u32 i
150 flowStartSeconds sec -
151 flowEndSeconds sec -
152 flowStartMilliseconds ms -
153 flowEndMilliseconds ms -
154 flowStartMicroseconds us -
155 flowEndMicroseconds us -
156 flowStartNanoseconds ns -
157 flowEndNanoseconds ns -
158 flowStartDeltaMicroseconds u32 -
159 flowEndDeltaMicroseconds u32 -
160 systemInitTimeMilliseconds ms -
161 flowDurationMilliseconds u32 -
162 flowDurationMicroseconds u32 -
163 observedFlowTotalCount u64 t
164 ignoredPacketTotalCount u64 t
165 ignoredOctetTotalCount u64 t
166 notSentFlowTotalCount u64 t
167 notSentPacketTotalCount u64 t
168 notSentOctetTotalCount u64 t
169 destinationIPv6Prefix ipv6 -
170 sourceIPv6Prefix ipv6 -
171 postOctetTotalCount u64 t
172 postPacketTotalCount u64 t
173 flowKeyIndicator u64 f
174 postMCastPacketTotalCount u64 t
175 postMCastOctetTotalCount u64 t
176 icmpTypeIPv4 u8 i
177 icmpCodeIPv4 u8 i
178 icmpTypeIPv6 u8 i
179 icmpCodeIPv6 u8 i
180 udpSourcePort u16 i
181 udpDestinationPort u16 i
182 tcpSourcePort u16 i
183 tcpDestinationPort u16 i
184 tcpSequenceNumber u32 -
185 tcpAcknowledgementNumber u32 -
186 tcpWindowSize u16 -
187 tcpUrgentPointer u16 -
188 tcpHeaderLength u8 -
189 ipHeaderLength u8 -
190 totalLengthIPv4 u16 -
191 payloadLengthIPv6 u16 -
192 ipTTL u8 -
193 nextHeaderIPv6 u8 -
194 mplsPayloadLength u32 -
195 ipDiffServCodePoint u8 i
196 ipPrecedence u8 i
197 fragmentFlags u8 f
198 octetDeltaSumOfSquares u64 -
199 octetTotalSumOfSquares u64 -
200 mplsTopLabelTTL u8 -
201 mplsLabelStackLength u32 -
202 mplsLabelStackDepth u32 -
203 mplsTopLabelExp u8 f
204 ipPayloadLength u32 -
205 udpMessageLength u16 -
206 isMulticast u8 f
207 ipv4IHL u8 -
208 ipv4Options u32 f
209 tcpOptions u64 f
210 paddingOctets octets -
211 collectorIPv4Address ipv4 -
212 collectorIPv6Address ipv6 -
213 exportInterface u32 i
214 exportProtocolVersion u8 i
215 exportTransportProtocol u8 i
216 collectorTransportPort u16 i
217 exporterTransportPort u16 i
218 tcpSynTotalCount u64 t
219 tcpFinTotalCount u64 t
220 tcpRstTotalCount u64 t
221 tcpPshTotalCount u64 t
222 tcpAckTotalCount u64 t
223 tcpUrgTotalCount u64 t
224 ipTotalLength u64 -
225 postNATSourceIPv4Address ipv4 -
226 postNATDestinationIPv4Address ipv4 -
227 postNAPTSourceTransportPort u16 i
228 postNAPTDestinationTransportPort u16 i
229 natOriginatingAddressRealm u8 i
230 natEvent u8 i
231 initiatorOctets u64 d
232 responderOctets u64 d
233 firewallEvent u8 -
234 ingressVRFID u32 -
235 egressVRFID u32 -
236 VRFname string -
237 postMplsTopLabelExp u8 f
238 tcpWindowScale u16 -
239 biflowDirection u8 i
240 ethernetHeaderLength u8 q
241 ethernetPayloadLength u16 q
242 ethernetTotalLength u16 q
243 dot1qVlanId u16 i
244 dot1qPriority u8 i
245 dot1qCustomerVlanId u16 i
246 dot1qCustomerPriority u8 i
252 ingressPhysicalInterface u32 i
253 egressPhysicalInterface u32 i
254 postDot1qVlanId u16 i
255 postDot1qCustomerVlanId u16 i
256 ethernetType u16 i
257 postIpPrecedence u8 i
258 collectionTimeMilliseconds ms -
259 exportSctpStreamId u16 i
260 maxExportSeconds sec -
261 maxFlowEndSeconds sec -
262 messageMD5Checksum octets -
263 messageScope u8 -
264 minExportSeconds sec -
265 minFlowStartSeconds sec -
266 opaqueOctets octets -
267 sessionScope u8 -
268 maxFlowEndMicroseconds us -
269 maxFlowEndMilliseconds ms -
270 maxFlowEndNanoseconds ns -
271 minFlowStartMicroseconds us -
272 minFlowStartMilliseconds ms -
273 minFlowStartNanoseconds ns -
276 dataRecordsReliability bool -
277 observationPointType u8 i
278 newConnectionDeltaCount u32 d
279 connectionSumDurationSeconds u64 -
280 connectionTransactionId u64 i
281 postNATSourceIPv6Address ipv6 -
282 postNATDestinationIPv6Address ipv6 -
283 natPoolId u32 i
284 natPoolName string -
291 basicList list l
292 subTemplateList list l
293 subTemplateMultiList list l
294 bgpValidityState u8 i
295 IPSecSPI u32 i
296 greKey u32 i
297 natType u8 i
298 initiatorPackets u64 d
299 responderPackets u64 d
300 observationDomainName string -
301 selectionSequenceId u64 i
302 selectorId u64 i
303 informationElementId u16 i
304 selectorAlgorithm u16 i
305 samplingPacketInterval u32 q
306 samplingPacketSpace u32 q
307 samplingTimeInterval u32 q
308 samplingTimeSpace u32 q
309 samplingSize u32 q
310 samplingPopulation u32 q
311 samplingProbability f64 q
312 dataLinkFrameSize u16 q
313 ipHeaderPacketSection octets -
314 ipPayloadPacketSection octets -
315 dataLinkFrameSection octets -
316 mplsLabelStackSection octets -
317 mplsPayloadPacketSection octets -
318 selectorIdTotalPktsObserved u64 t
319 selectorIdTotalPktsSelected u64 t
320 absoluteError f64 q
321 relativeError f64 q
322 observationTimeSeconds sec -
323 observationTimeMilliseconds ms -
324 observationTimeMicroseconds us -
325 observationTimeNanoseconds ns -
326 digestHashValue u64 q
339 informationElementDataType u8 -
340 informationElementDescription string -
341 informationElementName string -
342 informationElementRangeBegin u64 q
343 informationElementRangeEnd u64 q
344 informationElementSemantics u8 -
345 informationElementUnits u16 -
346 privateEnterpriseNumber u32 i
347 virtualStationInterfaceId octets -
348 virtualStationInterfaceName string -
351 layer2SegmentId u64 i
352 layer2OctetDeltaCount u64 d
353 layer2OctetTotalCount u64 t
354 ingressUnicastPacketTotalCount u64 t
361 portRangeStart u16 i
362 portRangeEnd u16 i
363 portRangeStepSize u16 i
364 portRangeNumPorts u16 i
365 staMacAddress mac -
366 staIPv4Address ipv4 -
367 wtpMacAddress mac -
368 ingressInterfaceType u32 i
369 egressInterfaceType u32 i
370 rtpSequenceNumber u16 -
371 userName string -
372 applicationCategoryName string -
373 applicationSubCategoryName string -
374 applicationGroupName string -
375 originalFlowsPresent u64 d
376 originalFlowsInitiated u64 d
377 originalFlowsCompleted u64 d
390 flowSelectorAlgorithm u16 i
391 flowSelectedOctetDeltaCount u64 d
392 flowSelectedPacketDeltaCount u64 d
393 flowSelectedFlowDeltaCount u64 d
394 selectorIDTotalFlowsObserved u64 -
395 selectorIDTotalFlowsSelected u64 -
396 samplingFlowInterval u64 -
397 samplingFlowSpacing u64 -
409 sectionOffset u16 q
410 sectionExportedOctets u16 q
411 dot1qServiceInstanceTag octets -
412 dot1qServiceInstanceId u32 i
413 dot1qServiceInstancePriority u8 i
414 dot1qCustomerSourceMacAddress mac -
415 dot1qCustomerDestinationMacAddress mac -
434 mibObjectValueInteger s32 q
435 mibObjectValueOctetString octets -
438 mibObjectValueIPAddress ipv4 -
458 sourceTransportPortsLimit u16 q
459 httpRequestMethod string -
460 httpRequestHost string -
461 httpRequestTarget string -
462 httpMessageVersion string -
466 natQuotaExceededEvent u32 i
467 natThresholdEvent u32 i
468 httpUserAgent string -
469 httpContentType string -
470 httpReasonPhrase string -
"""


def _rows() -> dict[int, Element]:
    rows = (line.split() for line in TABLE.split("\n") if line)
    return {int(number): Element(IANA, int(number), name, kind, semantics) for number, name, kind, semantics in rows}


ELEMENTS: dict[int, Element] = _rows()
"""The elements with enterprise number 0 that the decoder knows, by number."""

BY_NAME: dict[str, Element] = {e.name: e for e in ELEMENTS.values()}

HIGHEST_ASSIGNED = 600
"""No number above this had been assigned when the table was written; the registry then ended near 530."""

V9_ONLY = frozenset({*range(65, 70), 97, *range(105, 128)})
"""Numbers that the registry keeps for NetFlow v9 and that mean nothing in IPFIX."""

NOT_REVERSIBLE = frozenset({40, 41, 42, 130, 131, 137, 145, 148, 149, *range(163, 169), 173, *range(210, 218), 239})
"""Elements that never appear under the reverse enterprise number (RFC 5103 §6.1)."""

RANGES: dict[int, tuple[int, int]] = {
    9: (0, 32),
    13: (0, 32),
    29: (0, 128),
    30: (0, 128),
    31: (0, 0xFFFFF),
    88: (0, 0x1FFF),
    91: (0, 32),
    98: (0, 63),
    195: (0, 63),
    196: (0, 7),
    229: (1, 2),
    257: (0, 7),
    263: (0, 0),
    267: (0, 0),
    412: (0, 0xFFFFFF),
    413: (0, 7),
}
"""Elements whose registry entry restricts their values: lowest and highest."""

@lru_cache(maxsize=4096)
def element(pen: int, number: int) -> Element:
    """The element, also when the table lacks it: then `known` is False, its type octets, its name made from its numbers."""
    if pen == IANA and number in ELEMENTS:
        return ELEMENTS[number]
    if pen == REVERSE and number in ELEMENTS:
        forward = ELEMENTS[number]
        return Element(REVERSE, number, "reverse" + forward.name[0].upper() + forward.name[1:], forward.type, forward.semantics)
    return Element(pen, number, f"element{number}" if pen == IANA else f"enterprise{pen}element{number}", "octets", "-", known=False)
