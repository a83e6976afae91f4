# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the bytes left for the KV cache to blocks, tokens, concurrency and the longest request. Pure.

The rules of v1/core/kv_cache_utils.py, and of worker/worker.py for the V0 engine, release by release.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.pages import (
    Limits,
    Page,
    Rules,
    limits,
    pages,
    rules,
    up,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.reading import version_of
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.stages import stages


@dataclasses.dataclass(frozen=True)
class Capacity:
    """What the KV cache of one server holds.

    block_tokens: tokens of a block; block_bytes: bytes of a block of the pool on the GPU that holds most; blocks: of
    that pool; tokens: as the release reports them; concurrency: requests of max_model_len at once; request_bytes: what
    one of them needs; fits: whether it does; longest: vLLM's estimated maximum model length, at most max_model_len,
    0 where not even one token fits.
    """

    block_tokens: int
    block_bytes: int
    blocks: int
    tokens: int
    concurrency: float
    request_bytes: int
    fits: bool
    longest: int
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Group:
    """Layers that share a table of blocks, by kinds of pages."""

    parts: tuple[Page, ...]

    def size(self, stage: range | None) -> int:
        """Bytes of a block of all its layers, or of those of one stage."""
        return sum(page.size * _held(page.layers, stage) for page in self.parts)

    def blocks(self, limit: Limits, length: int) -> int:
        """Blocks of one request: the same for all its layers."""
        return limit.blocks(self.parts[0], length)


class _Need:
    """Bytes that one request needs on a GPU: for each page, its blocks times so many bytes."""

    def __init__(self, counted: t.Sequence[tuple[Page, int]], limit: Limits) -> None:
        self._counted, self._limit = counted, limit

    def bytes_of(self, length: int) -> int:
        """Of a request of so many tokens."""
        return sum([size * self._limit.blocks(page, length) for page, size in self._counted])

    def longest(self, size: int, most: int) -> int:
        """The longest request of at most so many tokens that has room in so many bytes; 0 where not one token has."""
        if len(self._counted) == 1:
            page, each = self._counted[0]
            if page.family == "full" and each:
                return min(most, size // each * page.tokens * self._limit.shares)
        if self.bytes_of(1) > size:
            return 0
        low, high = 1, most
        while low < high:
            middle = (low + high + 1) // 2
            if self.bytes_of(middle) <= size:
                low = middle
            else:
                high = middle - 1
        return low


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What one pipeline stage (None: the only one) holds: its layers, as pages and as groups."""

    found: tuple[Page, ...]
    groups: tuple[_Group, ...]
    stage: range | None

    def block_bytes(self, rule: Rules) -> int:
        """Bytes of one block of the pool: its largest group.

        Until 0.16.0 the one group of layers of different width was not cut to the stage.
        """
        if len(self.groups) == 1 and len(self.groups[0].parts) > 1 and rule.own_types and not rule.projected:
            return self.groups[0].size(None)
        if self.is_compressed and not rule.merges:
            most = self._most()
            if rule.bucketed:
                return sum(size * number for size, number in most.items())
            return self._tuple_bytes()
        return max((group.size(self.stage) for group in self.groups), default=0)

    @property
    def is_compressed(self) -> bool:
        """Whether these are the groups of deepseek_v4, whose pages have several sizes."""
        return len(self.groups) > 1 and len(self.groups[0].parts) > 1

    def _most(self) -> dict[int, int]:
        """The most layers of one group, by size of page."""
        most: dict[int, int] = {}
        for group in self.groups:
            own: dict[int, int] = {}
            for page in group.parts:
                own[page.size] = own.get(page.size, 0) + _held(page.layers, self.stage)
            for size, number in own.items():
                most[size] = max(most.get(size, 0), number)
        return most

    def _tuple_bytes(self) -> int:
        """One page of each size for as many layers as any group has: until 0.22.1, and in the check until 0.28.0."""
        return sum({page.size for page in self.groups[0].parts}) * max(self._most().values())

    def needed(self, rule: Rules, limit: Limits) -> _Need:
        """What one request needs in vLLM's check.

        check_enough_kv_cache_memory until 0.13.0: each layer on its own; _max_memory_usage_bytes_from_groups from
        0.14.0 on, with the first group alone until 0.18.1, and the whole model for each stage until 0.16.0.
        """
        if not rule.from_groups:
            return _Need([(page, page.size * _held(page.layers, self.stage)) for page in self.found], limit)
        size = max((group.size(self.stage if rule.projected else None) for group in self.groups), default=0)
        if self.is_compressed and not rule.null_block:
            size = self._tuple_bytes()
        alike: dict[t.Hashable, list[_Group]] = {}
        for group in self.groups if rule.all_groups else self.groups[:1]:
            alike.setdefault(_need(group.parts[0]), []).append(group)
        return _Need([(groups[0].parts[0], size * len(groups)) for groups in alike.values()], limit)


def capacity(
    shape: Geometry,
    chosen: Settings,
    kv_bytes: int | t.Sequence[int],
    device: Device | None = None,
) -> Capacity:
    """What so many bytes of KV cache on each GPU hold, exactly as the release computes it.

    kv_bytes: of every GPU, or of a GPU of each pipeline stage; the stage with the fewest blocks decides. device
    decides about the size of blocks of some backends, and is taken for a Hopper GPU where it is not known. Raises
    Unreadable where the layers would keep nothing.
    """
    given = [kv_bytes] * chosen.asked.pipeline_parallel if isinstance(kv_bytes, int) else list(kv_bytes)
    return holder(shape, chosen, device)(given, chosen.max_model_len)


Holder = t.Callable[[t.Sequence[int], int], Capacity]


def holder(shape: Geometry, chosen: Settings, device: Device | None = None) -> Holder:
    """A function of the bytes of a GPU of each pipeline stage and of the length of requests: what they hold.

    What does not depend on either is computed once. Raises Unreadable as capacity does.
    """
    found, block = pages(shape, chosen, device)
    if chosen.engine == "V0":
        return lambda given, length: _v0(shape, chosen, found, block, given, length)
    if not found:
        empty = "the model keeps no KV cache"
        return lambda _given, length: Capacity(block, 0, 1, 0, 0.0, 0, True, length, (empty,))
    if any(page.family == "state" and page.tokens == chosen.max_model_len for page in found):
        # A block of such a state is a whole request (_state_page in pages.py).
        def whole(given: t.Sequence[int], length: int) -> Capacity:
            sized = dataclasses.replace(chosen, max_model_len=length)
            return _pool(shape, sized, *pages(shape, sized, device))(given, length)

        return whole
    return _pool(shape, chosen, found, block)


def _pool(shape: Geometry, chosen: Settings, found: tuple[Page, ...], block: int) -> Holder:
    rule, limit = rules(chosen.release), limits(shape, chosen)
    plans, notes = _plans(found, _stages(shape, chosen), rule, chosen)
    sizes = [plan.block_bytes(rule) for plan in plans]
    greatest = max(sizes)
    needed = [plan.needed(rule, limit) for plan in plans]

    def hold(given: t.Sequence[int], length: int) -> Capacity:
        checked = given
        if chosen.asked.gpu_blocks_override:
            given = [chosen.asked.gpu_blocks_override * size for size in sizes]
            checked = given if rule.override_checked else checked
        blocks, deciding = min(
            (max(0, bytes_) // size, index)
            for index, (bytes_, size) in enumerate(zip(given, sizes, strict=True))
            if size
        )
        usable = [bytes_ - (size if rule.null_block else 0) for bytes_, size in zip(checked, sizes, strict=True)]
        if rule.from_groups and not rule.projected:
            usable = [min(usable)] * len(usable)
        # estimate_max_model_len of the release is a binary search for the same.
        longest = min([need.longest(bytes_, length) for need, bytes_ in zip(needed, usable, strict=True)])
        tokens, concurrency = _reported(plans[deciding].groups, rule, limit, length, blocks, block)
        return Capacity(
            block_tokens=block,
            block_bytes=greatest,
            blocks=blocks,
            tokens=tokens,
            concurrency=concurrency,
            request_bytes=max([need.bytes_of(length) for need in needed]),
            fits=min(checked) > 0 and longest == length,
            longest=max(0, longest),
            notes=notes,
        )

    return hold


def _held(layers: tuple[int, ...], stage: range | None) -> int:
    return len(layers) if stage is None else sum(layer in stage for layer in layers)


def _stages(shape: Geometry, chosen: Settings) -> list[range | None]:
    """Layers of each pipeline stage, None for all of the only one; the last one has the draft layers too."""
    asked = chosen.asked
    if asked.pipeline_parallel == 1:
        return [None]
    spans = stages(shape.layers, asked.pipeline_parallel, asked.layer_partition, chosen.release)
    first, _end = spans[-1]
    return [*(range(*span) for span in spans[:-1]), range(first, shape.layers + shape.draft_layers)]


def _plans(
    found: tuple[Page, ...], spans: list[range | None], rule: Rules, chosen: Settings
) -> tuple[list[_Plan], tuple[str, ...]]:
    """The stages' plans: until 0.10.2 each worker makes groups of its own layers, then of the whole model's."""
    if rule.own_types or len(spans) == 1:
        groups, notes = _groups(found, rule, chosen)
        return [_Plan(found, groups, stage) for stage in spans], notes
    plans: list[_Plan] = []
    notes = ()
    for stage in spans:
        held = tuple(
            dataclasses.replace(page, layers=tuple(layer for layer in page.layers if stage is None or layer in stage))
            for page in found
        )
        held = tuple(page for page in held if page.layers)
        groups, notes = _groups(held, rule, chosen) if held else ((), notes)
        plans.append(_Plan(held, groups, stage))
    return plans, notes


def _groups(found: tuple[Page, ...], rule: Rules, chosen: Settings) -> tuple[tuple[_Group, ...], tuple[str, ...]]:
    """get_kv_cache_groups: one group for layers of one family, else groups with equally many layers."""
    notes: tuple[str, ...] = ()
    if rule.uniform_only or _manager_off(found, chosen):
        found = _promoted(found)
    if len({_need(page) for page in found}) == 1:
        return (_Group(found),), notes
    if any(page.family == "sliding" and page.is_latent for page in found):
        return _compressed(found, rule), notes
    try:
        found = _one_size(found, rule)
    except ValueError as error:
        promoted = _promoted(found)
        notes = (str(error),)
        if len({_need(page) for page in promoted}) == 1:
            return (_Group(promoted),), notes if not rule.merges else ()
        size = max(page.size for page in found)
        found = tuple(dataclasses.replace(page, size=size) for page in found)
    types = _types(found, rule)
    counts = [sum(len(page.layers) for page in one) for one in types]
    least, most = min(counts), max(counts)
    height = most if most < least * rule.near else least
    groups: list[_Group] = []
    for one in types:
        layers = sorted(layer for page in one for layer in page.layers)
        number = up(len(layers), height)
        for index in range(number):
            part = layers[index::number] if rule.own_types else layers[index * height : (index + 1) * height]
            groups.append(_Group((dataclasses.replace(one[0], layers=tuple(part)),)))
    return tuple(groups), notes


def _compressed(found: tuple[Page, ...], rule: Rules) -> tuple[_Group, ...]:
    """deepseek_v4: _get_kv_cache_groups_uniform_groups until 0.28.0, _get_packed_kv_cache_groups from 0.29.0 on.

    One group for what is kept in full; windows are cut into groups of about as many layers of each size of page.
    """
    full = tuple(page for page in found if page.family == "full")
    windows: dict[t.Hashable, list[Page]] = {}
    for page in found:
        if page.family == "sliding":
            larger = [one.size for one in full if one.size >= page.size]
            size = min(larger, default=page.size) if not rule.null_block else page.size
            windows.setdefault(_need(page), []).append(dataclasses.replace(page, size=size))
    counts = [max(len(page.layers) for page in one) for one in (full, *windows.values())]
    least = counts[0]
    if rule.null_block:
        even = [one for one in windows.values() if len({len(page.layers) for page in one}) == 1]
        least = max((len(one[0].layers) for one in even if len(one) > 1), default=counts[0])
        counts = [len(one[0].layers) for one in even]
    height = min(
        range(least, max(least, *counts) + 1), key=lambda size: (sum(-number % size for number in counts), -size)
    )
    groups = [_Group(full)]
    for one in windows.values():
        number = up(max(len(page.layers) for page in one), height)
        groups += [
            _Group(tuple(dataclasses.replace(page, layers=page.layers[index::number]) for page in one))
            for index in range(number)
        ]
    return tuple(groups)


def _need(page: Page) -> tuple[t.Hashable, ...]:
    """What layers must have in common to need the same number of blocks: is_uniform_type of the specs."""
    if page.family in ("sliding", "chunked"):
        return page.family, page.window, page.tokens
    return page.family, page.fixed, page.tokens


def _manager_off(found: tuple[Page, ...], chosen: Settings) -> bool:
    """Whether the hybrid manager is off: as asked, on CPUs, and for chunked attention by default (config/vllm.py)."""
    allowed = chosen.asked.env.get("VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE", "0") == "1"
    chunked = any(page.family == "chunked" for page in found)
    since = version_of("0.10.1")
    return chosen.asked.hybrid_manager_off or (chunked and not allowed and chosen.release >= since)


def _promoted(found: tuple[Page, ...]) -> tuple[Page, ...]:
    """unify_hybrid_kv_cache_specs: beside full attention, windows and chunks are kept in full."""
    if not any(page.family == "full" for page in found):
        return found
    return tuple(
        dataclasses.replace(page, family="full", window=0) if page.family in ("sliding", "chunked") else page
        for page in found
    )


def _one_size(found: tuple[Page, ...], rule: Rules) -> tuple[Page, ...]:
    """unify_kv_cache_spec_page_size."""
    size = max(page.size for page in found)
    if all(page.size == size for page in found):
        return found
    if not rule.unified_pages:
        raise ValueError("this release cannot serve layers whose pages have different sizes")
    for page in found:
        padded = rule.pads_states if page.family == "state" else rule.pads_attention and not page.is_latent
        if (page.family == "state" or size % page.size) and page.size != size and not padded:
            raise ValueError("the pages of the model's layers cannot be made equal")
    return tuple(page if page.size == size else page.resized(size) for page in found)


def _types(found: tuple[Page, ...], rule: Rules) -> list[list[Page]]:
    """Pages by type; from 0.27.0 on types that merge are one: same block and bytes, and no window."""
    types: dict[t.Hashable, list[Page]] = {}
    for page in found:
        key: t.Hashable = (page.family, page.identity, page.tokens, page.size)
        if rule.merges and page.family == "full":
            key = ("full", page.identity[1:4], page.unit, page.tokens, page.size)
        types.setdefault(key, []).append(page)
    return list(types.values())


def _reported(
    groups: tuple[_Group, ...], rule: Rules, limit: Limits, length: int, blocks: int, block: int
) -> tuple[int, float]:
    """(tokens, concurrency) as they are logged, for requests of so many tokens."""
    if rule.uniform_only:
        return blocks * block, blocks * block / length
    each = sum(group.blocks(limit, length) for group in groups)
    if len(groups) > 1 and len(groups[0].parts) > 1 and not rule.merges:
        # get_max_concurrency_for_kv_cache_config until 0.26.0 divides by the page of the first group.
        sizes = [group.size(None) for group in groups]
        total = sum(size * group.blocks(limit, length) for group, size in zip(groups, sizes, strict=True))
        each = up(total, sizes[0])
    concurrency = blocks / each
    if rule.tokens_of_concurrency:
        return int(concurrency * length), concurrency
    tokens = min(page.tokens for group in groups for page in group.parts)
    return blocks // len(groups) * tokens * limit.shares, concurrency


def _v0(
    shape: Geometry, chosen: Settings, found: tuple[Page, ...], block: int, given: t.Sequence[int], length: int
) -> Capacity:
    """get_cache_block_size in worker/cache_engine.py, determine_num_available_blocks in worker/worker.py: 0.8.5."""
    attending = [_v0_page(shape, chosen, page) for page in found if page.family in ("full", "sliding", "chunked")]
    if not attending:
        return Capacity(block, 0, 0, 0, 0.0, 0, True, length, ("the model keeps no KV cache",))
    sizes = [sum(page.size * _held(page.layers, stage) for page in attending) for stage in _stages(shape, chosen)]
    size = max(sizes)
    blocks = min(max(0, bytes_) // one for bytes_, one in zip(given, sizes, strict=True) if one)
    blocks = chosen.asked.gpu_blocks_override or blocks
    tokens = blocks * block
    return Capacity(
        block_tokens=block,
        block_bytes=size,
        blocks=blocks,
        tokens=tokens,
        concurrency=tokens / length,
        request_bytes=up(length, block) * size,
        fits=length <= tokens,
        longest=min(length, tokens),
        notes=(),
    )


def _v0_page(shape: Geometry, chosen: Settings, page: Page) -> Page:
    """Where the V0 engine counts otherwise.

    Models with an encoder count the layers of the encoder, whose number their num_hidden_layers is. Latents are kept as
    keys and values of 256 for each head until 0.7.0 (get_head_size in config.py of 0.6.6), and padded to 256 bytes in
    0.7.2 and 0.7.3.
    """
    release, tokens = chosen.release, page.tokens
    if shape.keeps("cross") and "decoder_layers" in shape.config:
        page = dataclasses.replace(page, layers=tuple(range(shape.layers)))
    if page.is_latent and release < version_of("0.7.1"):
        values = max(1, shape.kv_heads // chosen.asked.tensor_parallel) * 2 * 256
        return dataclasses.replace(page, size=max(1, page.unit // shape.mla_width) * values * tokens)
    if page.is_latent and release < version_of("0.8.0") and release >= version_of("0.7.2"):
        return dataclasses.replace(page, size=up(page.unit, 256) * 256 * tokens)
    return page
