"""Texts that tokenizers stumble over, for laws: scripts, emoji, code, odd spaces, and characters that few use."""

from __future__ import annotations

from hypothesis import strategies as st

PIECES = [
    "The quick brown fox", "don't", "I'LL", "ſ'ſ", "3.14159", "20 000 000", "價格是 1999 元", "한국어", "кириллица",
    "ไม่มีช่องว่าง", "العربية", "हिन्दी", "😀", "👩‍👩‍👧‍👦", "🇹🇼", "e\u0301", "\u0301", "ﬁ①Ａ", "İıßẞ", "\n", "\r\n",
    "\n\n\n", "\t", "  ", "     ", "\u00a0", "\u3000", "\u200b", "\u2028", "\u0085", "\ufeff", "\x00", "\x1c", "\x7f",
    "\ufffd", "\U0010ffff", "def f(x):\n    return x ** 2  # é", "<|endoftext|", "</s", "[INST", "▁", "Ġ",
    "aaaaaaaaaaaa", "{}[]()<>;:,.!?/\\",
]  # fmt: skip
texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.text(max_size=30),
    st.text(alphabet="ab '\n1é漢😀", max_size=30),
)
