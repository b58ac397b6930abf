"""Types of tensors and of values, as safetensors and GGUF files number or name them."""

from __future__ import annotations

from octavo.nn.encodings import Encoding

ELEMENT_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
SAFETENSORS_ENCODINGS: dict[str, Encoding] = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
SAFETENSORS_KINDS: dict[Encoding, str] = {encoding: kind for kind, encoding in SAFETENSORS_ENCODINGS.items()}
GGUF_ENCODINGS: dict[int, Encoding] = {
    0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0", 12: "q4_k", 13: "q5_k", 14: "q6_k",
    30: "bf16", 39: "mxfp4",
}  # fmt: skip
GGUF_OTHERS = {
    9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0",
}  # fmt: skip
GGUF_TYPES = {encoding: number for number, encoding in GGUF_ENCODINGS.items()}
GGUF_FILE_TYPES: dict[Encoding, int] = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "bf16": 32}
"""`general.file_type`, by the encoding of most weights."""
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TEXT, ARRAY = 8, 9
"""Types of GGUF's values: layouts of numbers, as `struct` has them, and the two that are none."""
U32, I32, F32, BOOL = 4, 5, 6, 7
