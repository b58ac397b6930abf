"""Families that are known and not here: their model_type -> what of them is missing."""

from __future__ import annotations

from collections.abc import Mapping

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("mamba", "mamba2", "falcon_mamba", "bamba", "jamba", "zamba", "zamba2", "falcon_h1",
         "nemotron_h"),
        "state-space blocks (Mamba)",
    ),
    **dict.fromkeys(("rwkv", "rwkv5", "rwkv6", "rwkv7", "xlstm", "recurrent_gemma"), "recurrent blocks"),
    **dict.fromkeys(
        ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "olmo_hybrid", "lara_mini", "kimi_linear", "minimax",
         "bailing_hybrid"),
        "linear attention",
    ),
    **dict.fromkeys(("lfm2", "lfm2_moe", "lfm3"), "short convolutions between the blocks of attention"),
    **dict.fromkeys(("deepseek_v32", "deepseek_v4", "glm_moe_dsa", "axk2"), "an indexer of the tokens to attend to"),
    **dict.fromkeys(("gemma3n_text", "gemma4_text"), "embeddings of each block, and blocks that share keys and values"),
    "laguna": "a number of heads for each block",
    "bitnet": "norms within sublayers, and activations of eight bits",
    "deberta": "attention to content and position apart, in the way of its first version",
    "fsmt": "two vocabularies, and norms of its own",
    "umt5": "a bias by distance in every block",
    **dict.fromkeys(("longformer", "led", "bigbird_pegasus", "longt5", "pegasus_x", "reformer"),
                    "sparse attention of its own kind"),
    **dict.fromkeys(("xlnet", "ctrl", "prophetnet"), "attention or positions of its own kind"),
    **dict.fromkeys(("switch_transformers", "nllb-moe"), "experts with a capacity"),
    "jetmoe": "experts of attention",
    "blenderbot-small": "a decoder that normalises before it adds positions",
    **dict.fromkeys(("fnet", "nystromformer", "mra", "yoso", "perceiver"), "what stands in place of attention"),
    **dict.fromkeys(("convbert", "squeezebert", "canine", "funnel"), "convolutions, or positions that are merged"),
    **dict.fromkeys(("layoutlm", "layoutlmv2", "layoutlmv3", "markuplm", "tapas", "bros", "lilt"),
                    "the places of words on a page"),
    **dict.fromkeys(("luke", "mluke"), "entities beside words"),
    **dict.fromkeys(("esm", "esmc"), "embeddings that depend on how many tokens are masked"),
    **dict.fromkeys(("mobilebert", "ibert"), "bottlenecks, or whole numbers, within blocks"),
    **dict.fromkeys(("xmod", "roc_bert", "neomme"),
                    "parts of a block that depend on the language or on how words look"),
    **dict.fromkeys(("modernbert-decoder", "bert-generation", "gpt_neox_japanese"),
                    "a decoder's dense layer before its output, or biases in some blocks alone"),
    **dict.fromkeys(("diffllama", "doge", "dory", "hrm_text", "beam", "zaya", "blt"), "blocks of its own kind"),
    **dict.fromkeys(("axk1", "kolibri1", "cohere2_moe", "mimo_v2_flash", "longcat_flash", "hy_v4"),
                    "experts, or heads, of its own kind"),
    **dict.fromkeys(("t5gemma", "t5gemma2"), "two sides of Gemma's blocks"),
    "ultrabert": "a head of two layers",
    **dict.fromkeys(("whisper", "wav2vec2", "speech_to_text"), "hearing"),
}  # fmt: skip
