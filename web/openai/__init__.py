"""OpenAI's API (docs/openai.md)."""
