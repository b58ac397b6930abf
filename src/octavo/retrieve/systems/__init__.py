"""Systems of the lecture that retrieve and write in one model: RAG, Fusion-in-Decoder, RETRO, CodeT5+."""
