"""BERTScore and sentence cosine through any text encoder; torch is imported when one is opened."""
