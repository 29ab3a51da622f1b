#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Renders chats with the Jinja templates of published models as transformers does: tests/parity/data/chat. Run once; the
tests need no Python.

    make_chat_goldens.py [OUT_FILE]

Parts for tools, which chats without tools never reach, are shortened.
"""
import json
import os
import sys

import transformers
from transformers.utils.chat_template_utils import render_jinja_template

ALTERNATE = ("{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
             "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}")

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
    "DEFAULT{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}" + ALTERNATE +
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'system' %}{{ '<<SYS>>\\n' + content.strip() + '\\n<</SYS>>\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")

LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")

LLAMA31 = r'''{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
DATE
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message, "if there is one". #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
        {{- "<|python_tag|>" + message.tool_calls[0].function.name }}
        {{- "<|eom_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
'''
DATE31 = '    {%- set date_string = "26 Jul 2024" %}'
DATE32 = r'''    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}'''

CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
QWEN2 = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
         "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
         "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
QWEN25 = r'''{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\n<tools>" }}
    {{- "\n</tools>\n\nReturn calls in <tool_call></tool_call> tags:\n<tool_call>\n{\"name\": <function-name>}\n</tool_call><|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
'''

MISTRAL_HEAD = "{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}"
MISTRAL_01 = (MISTRAL_HEAD + "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
              "{{ message['content'] + eos_token + ' ' }}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
              "{% endif %}{% endfor %}")
MISTRAL_02 = (MISTRAL_HEAD + "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
              "{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
              "{% endif %}{% endfor %}")
MISTRAL_SYSTEM = r'''{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.WHERE and system_message is defined %}
            {{- "OPEN" + system_message + "\n\n" + message["content"] + "CLOSE" }}
        {%- else %}
            {{- "OPEN" + message["content"] + "CLOSE" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- ANSWER }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
'''


def mistral(where, before, after, answer):
    return MISTRAL_SYSTEM.replace("WHERE", where).replace("OPEN", before).replace("CLOSE", after).replace("ANSWER", answer)


ZEPHYR = ("{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
          "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
          "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
          "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")

SPLIT_SYSTEM = ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'].strip() + 'GAP' %}"
                "{% else %}{% set loop_messages = messages %}{% set system_message = 'NONE' %}{% endif %}")
ALPACA = (SPLIT_SYSTEM.replace("GAP", "\\n\\n") + "{{ bos_token + system_message }}{% for message in loop_messages %}" + ALTERNATE +
          "{% if message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'].strip() + '\\n\\n' }}"
          "{% elif message['role'] == 'assistant' %}{{ '### Response:\\n' + message['content'].strip() + eos_token + '\\n\\n' }}{% endif %}{% endfor %}"
          "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}")
PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\\n\\n"
VICUNA_LINES = (SPLIT_SYSTEM.replace("GAP", "\\n\\n").replace("NONE", "") + "{% for message in loop_messages %}" + ALTERNATE +
                "{% if loop.index0 == 0 %}{{ bos_token + system_message }}{% endif %}"
                "{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'].strip() + '\\n' }}"
                "{% elif message['role'] == 'assistant' %}{{ 'ASSISTANT: ' + message['content'].strip() + eos_token + '\\n' }}{% endif %}{% endfor %}"
                "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}")
CURIOUS = ("A chat between a curious user and an artificial intelligence assistant. "
           "The assistant gives helpful, detailed, and polite answers to the user\\'s questions.")
VICUNA = ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
          "{% else %}{% set loop_messages = messages %}{% set system_message = '" + CURIOUS + "' %}{% endif %}"
          "{{ bos_token + system_message + ' ' }}{% for message in loop_messages %}{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
          "{% elif message['role'] == 'assistant' %}{{ 'ASSISTANT: ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
          "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}")

KNOWN = {
    "llama-2": ("llama-2", LLAMA2.replace("DEFAULT", "{% elif false == true and not '<<SYS>>' in messages[0]['content'] %}"
                                          "{% set loop_messages = messages %}{% set system_message = 'You are a helpful assistant.' %}")),
    "llama-2, default system": ("llama-2", LLAMA2.replace("DEFAULT", "{% elif true == true and not '<<SYS>>' in messages[0]['content'] %}"
                                                          "{% set loop_messages = messages %}{% set system_message = 'You are a helpful assistant.' %}")),
    "llama-2, one begin token": ("llama-2", "{{ bos_token }}" + LLAMA2.replace("DEFAULT", "").replace("bos_token + ", "")),
    "llama-3": ("llama-3", LLAMA3),
    "llama-3.1": ("llama-3", LLAMA31.replace("DATE", DATE31)),
    "llama-3.2": ("llama-3", LLAMA31.replace("DATE", DATE32)),
    "chatml": ("chatml", CHATML),
    "chatml, begin token": ("chatml", "{{ bos_token }}" + CHATML),
    "qwen2": ("chatml", QWEN2),
    "qwen2.5": ("chatml", QWEN25),
    "smollm2": ("chatml", QWEN2.replace("You are a helpful assistant.", "You are a helpful AI assistant named SmolLM, trained by Hugging Face")),
    "mistral v0.1": ("mistral", MISTRAL_01),
    "mistral v0.2": ("mistral", MISTRAL_02),
    "mistral v0.2, system": ("mistral", mistral("first", " [INST] ", " [/INST]", '" " + message["content"] + eos_token')),
    "mistral v0.3": ("mistral", mistral("last", "[INST] ", "[/INST]", '" " + message["content"]|trim + eos_token')),
    "mistral nemo": ("mistral", mistral("last", "[INST]", "[/INST]", 'message["content"] + eos_token')),
    "zephyr": ("zephyr", ZEPHYR),
    "alpaca": ("alpaca", ALPACA.replace("NONE", PREAMBLE)),
    "alpaca, no preamble": ("alpaca", ALPACA.replace("NONE", "")),
    "vicuna": ("vicuna", VICUNA),
    "vicuna, lines": ("vicuna", VICUNA_LINES),
}

# Not ours: a marker, a block or a space makes them something else.
UNKNOWN = {
    "empty": "",
    "phi-3": "{{ bos_token }}{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
             "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    "gemma": "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
             "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
    "qwen3, reasoning": QWEN25.replace("'<|im_start|>' + message.role }}", "'<|im_start|>' + message.role + '\\n<think>\\n\\n</think>\\n\\n' }}"),
    "chatml, no line feed": CHATML.replace(" + '\\n'}}", "}}"),
    "chatml, other end": CHATML.replace("<|im_end|>", "<|endoftext|>"),
    "chatml, two default systems": QWEN2 + "{{ '<|im_start|>system\\nYou are somebody else.<|im_end|>\\n' }}",
    "chatml, other persona": "{{ 'You are a pirate.' }}" + CHATML,
    "chatml, trimmed": CHATML.replace("message['content']", "message['content'] | trim"),
    "llama-3, not trimmed": LLAMA3.replace(" | trim", ""),
    "llama-3, other dates": LLAMA31.replace("DATE", DATE31).replace("December 2023", "June 2024"),
    "llama-3, other marker": LLAMA3.replace("<|eot_id|>", "<|end|>"),
    "llama-2, no spaces": LLAMA2.replace("DEFAULT", "").replace("'[INST] '", "'[INST]'"),
    "mistral, two spellings": MISTRAL_02 + "{{ '[INST]' }}",
    "mistral, lower case": MISTRAL_02.replace("INST", "inst"),
    "zephyr, no line feed": ZEPHYR.replace("eos_token }}\n", "eos_token }}"),
    "orca": VICUNA_LINES.replace("'USER: '", "'SYSTEM: x' + 'USER: '"),
    "openchat": "{{ bos_token }}{% for message in messages %}{{ 'GPT4 Correct ' + message['role'].title() + ': ' + message['content'] + '<|end_of_turn|>'}}"
                "{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}",
    "unfinished": "{{ '<|im_start|>' + message['role",
}

CHATS = [
    [("user", "Hello")],
    [("user", "  Hello \n"), ("assistant", " Hi there\n"), ("user", "More?")],
    [("system", "Be brief."), ("user", "a <s> b</s> [INST] <|im_end|>"), ("assistant", "ok")],
    [("system", " Be kind. "), ("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2"), ("user", "\u00e9\u4e2d")],
]


def render(template, chat):
    messages = [{"role": role, "content": content} for role, content in chat]
    prompt = chat[-1][0] == "user"
    try:
        out = render_jinja_template([messages], chat_template=template, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>",
                                    date_string="26 Jul 2024")
    except Exception:  # the template's own refusal
        return None
    return out[0][0]


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "chat", "golden.json")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    golden = {"transformers": transformers.__version__,
              "chats": [[{"role": role, "content": content} for role, content in chat] for chat in CHATS],
              "known": [{"name": name, "is": family, "template": text, "rendered": [render(text, chat) for chat in CHATS]}
                        for name, (family, text) in KNOWN.items()],
              "unknown": [{"name": name, "template": text} for name, text in UNKNOWN.items()]}
    with open(path, "w") as f:
        json.dump(golden, f, indent=1)
        f.write("\n")


main()
