"""Claude Code itself against `ft serve MODEL`: one line a check.

usage: claude_code.py MODEL [--chat-template NAME]; needs `npm install @anthropic-ai/claude-code` (`CLAUDE`, or `claude` on the
path). With few tools and a short system message its prompts fit into 8,000 tokens; what it says depends on the model.
"""

import json
import os
import subprocess
import sys
import tempfile

from server import Checks, Server

claude = os.environ.get("CLAUDE", "claude")
more = sys.argv[2:]
check = Checks()
with tempfile.TemporaryDirectory() as home:
    log = os.path.join(home, "audit.jsonl")
    with Server("--audit-log", log, "--audit-bodies", *more) as server:
        environment = {**os.environ, "HOME": home, "ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_AUTH_TOKEN": "none",
                       "ANTHROPIC_MODEL": "tested", "ANTHROPIC_SMALL_FAST_MODEL": "tested",
                       "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "48"}
        command = [claude, "-p", "Say hello.", "--tools", "Read,Write", "--system-prompt", "You are brief."]
        said = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=280)
    with open(log) as file:
        lines = [json.loads(line) for line in file]
    bodies = [json.loads(line["body"]) for line in lines
              if line["event"] == "request" and line["route"] == "/v1/messages"]
    ends = [line for line in lines if line["event"] == "end" and line["route"] == "/v1/messages"]
    check("Claude Code asks for messages with tools", any(body.get("tools") for body in bodies), f"{len(bodies)} requests")
    check("none is refused", ends and all(end["status"] == 200 for end in ends), str([end["status"] for end in ends]))
    check("answers are streamed to their end", ends and all(end["outcome"] == "answered" for end in ends),
          f"{sum(end['prompt_tokens'] for end in ends)} tokens read, {sum(end['completion_tokens'] for end in ends)} written")
    check("Claude Code ends in peace", "API Error: 4" not in said.stdout + said.stderr, repr(said.stdout.strip()[:80]))
check.end()
