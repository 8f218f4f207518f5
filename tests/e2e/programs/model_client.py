"""Calls a model with the real clients of OpenAI and Anthropic.

usage: model_client.py BASE_URL PROMPT   (SSL_CERT_FILE names the certificate)
"""

import sys

import anthropic
import openai

base, prompt = sys.argv[1:]
messages = [{"role": "user", "content": prompt}]

with openai.OpenAI(base_url=f"{base}/v1", api_key="sk-planted-hunter2", max_retries=0) as client:
    answer = client.chat.completions.create(
        model="gpt-e2e", messages=messages, temperature=0.25, max_tokens=64, n=2
    )
    assert answer.usage.completion_tokens == 22
    stream = client.chat.completions.create(
        model="gpt-e2e", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    assert list(stream)[-1].usage.total_tokens == 33

with anthropic.Anthropic(base_url=base, api_key="sk-planted-hunter2", max_retries=0) as client:
    answer = client.messages.create(model="claude-e2e", messages=messages, max_tokens=128)
    assert answer.usage.output_tokens == 9
    with client.messages.stream(model="claude-e2e", messages=messages, max_tokens=128) as stream:
        assert stream.get_final_message().usage.output_tokens == 9
