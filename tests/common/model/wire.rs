//! The two wire formats: requests read as strictly as the services read them, answers written.

use serde_json::{Value, json};

use super::TOKENS;
use super::brain::{Call, Seen};

/// Whose format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    OpenAi,
    Anthropic,
}

/// A message, whoever's format it came in.
#[derive(Debug, Default)]
struct Message {
    is_assistant: bool,
    text: String,
    calls: Vec<(String, String)>,
    /// Ids of the calls that it answers.
    answers: Vec<String>,
    has_picture: bool,
}

impl Format {
    /// What a request says; or why the service would refuse it.
    pub(super) fn read(self, body: &Value) -> Result<Seen, String> {
        let model = body["model"].as_str().ok_or("model is missing")?.to_owned();
        let messages = body["messages"].as_array().ok_or("messages are missing")?;
        let (system, messages) = match self {
            Self::OpenAi => openai(messages)?,
            Self::Anthropic => {
                if !body["max_tokens"].is_u64() {
                    return Err("max_tokens is missing".into());
                }
                (text_of(&body["system"]), anthropic(messages)?)
            }
        };
        answered(&messages)?;
        let tools = body["tools"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let name = |tool: &Value| match self {
            Self::OpenAi => tool["function"]["name"].as_str().map(str::to_owned),
            Self::Anthropic => tool["name"].as_str().map(str::to_owned),
        };
        let tools: Vec<String> = tools.iter().filter_map(name).collect();
        if tools.is_empty() && messages.iter().any(|message| !message.calls.is_empty()) {
            return Err("there are tool calls, but no tools".into());
        }
        let last = messages.iter().rposition(|message| message.is_assistant);
        let newest = last.map_or(0, |last| last + 1);
        let texts = |messages: &[Message]| {
            let texts = messages.iter().map(|message| message.text.as_str());
            texts.collect::<Vec<_>>().join("\n")
        };
        let first = messages.first().ok_or("there is no message")?;
        let calls = messages.iter().flat_map(|message| &message.calls);
        Ok(Seen {
            model,
            system,
            tools,
            task: task_of(&first.text),
            calls: calls.map(|(_, command)| command.clone()).collect(),
            newest: texts(&messages[newest..]),
            whole: texts(&messages),
            has_picture: messages[newest..].iter().any(|message| message.has_picture),
        })
    }

    pub(super) fn text(self, model: &str, text: &str) -> Value {
        match self {
            Self::OpenAi => completion(
                model,
                json!({ "role": "assistant", "content": text }),
                "stop",
            ),
            Self::Anthropic => {
                let content = match text {
                    "" => json!([]),
                    text => json!([{ "type": "text", "text": text }]),
                };
                message(model, content, "end_turn")
            }
        }
    }

    pub(super) fn calls(self, model: &str, calls: &[Call]) -> Value {
        let id = || format!("call_{}", uuid::Uuid::new_v4().simple());
        let parts = |call: &Call| match call {
            Call::Browser(command) => ("browser", json!({ "command": command })),
            Call::Screenshot => ("screenshot", json!({})),
        };
        match self {
            Self::OpenAi => {
                let call = |call: &Call| {
                    let (name, arguments) = parts(call);
                    let function = json!({ "name": name, "arguments": arguments.to_string() });
                    json!({ "id": id(), "type": "function", "function": function })
                };
                let calls: Vec<Value> = calls.iter().map(call).collect();
                let said = json!({ "role": "assistant", "content": null, "tool_calls": calls });
                completion(model, said, "tool_calls")
            }
            Self::Anthropic => {
                let call = |call: &Call| {
                    let (name, input) = parts(call);
                    json!({ "type": "tool_use", "id": id(), "name": name, "input": input })
                };
                let mut content = vec![json!({ "type": "text", "text": "I go on." })];
                content.extend(calls.iter().map(call));
                message(model, content.into(), "tool_use")
            }
        }
    }

    /// A call that is none.
    pub(super) fn garbage(self, model: &str) -> Value {
        match self {
            Self::OpenAi => {
                let function = json!({ "name": "browser", "arguments": "{\"command\": click" });
                let call = json!({ "id": "call_x", "type": "function", "function": function });
                let said = json!({ "role": "assistant", "content": null, "tool_calls": [call] });
                completion(model, said, "tool_calls")
            }
            Self::Anthropic => {
                let call = json!({ "type": "tool_use", "id": "call_x", "name": "browser",
                                   "input": { "comand": ["click"] } });
                message(model, json!([call]), "tool_use")
            }
        }
    }
}

fn completion(model: &str, said: Value, reason: &str) -> Value {
    let (input, output) = TOKENS;
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": model,
        "choices": [{ "index": 0, "message": said, "finish_reason": reason }],
        "usage": { "prompt_tokens": input, "completion_tokens": output,
                   "total_tokens": input + output },
    })
}

fn message(model: &str, content: Value, reason: &str) -> Value {
    let (input, output) = TOKENS;
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": reason, "stop_sequence": null,
        "usage": { "input_tokens": input, "output_tokens": output },
    })
}

fn openai(messages: &[Value]) -> Result<(String, Vec<Message>), String> {
    let mut system = String::new();
    let mut read = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let content = &message["content"];
        match message["role"].as_str() {
            Some("system") if at == 0 => system = text_of(content),
            Some("user") => read.push(Message {
                text: text_of(content),
                has_picture: has_part(content, "image_url"),
                ..Message::default()
            }),
            Some("assistant") => {
                let mut calls = Vec::new();
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    let id = call["id"].as_str().ok_or("a tool call has no id")?;
                    let text = call["function"]["arguments"].as_str();
                    let text = text.ok_or("arguments must be a string")?;
                    let arguments: Value =
                        serde_json::from_str(text).map_err(|error| error.to_string())?;
                    calls.push((
                        id.to_owned(),
                        command_of(&call["function"]["name"], &arguments),
                    ));
                }
                if calls.is_empty() && text_of(content).is_empty() {
                    return Err("an assistant message has neither content nor tool calls".into());
                }
                read.push(Message {
                    is_assistant: true,
                    text: text_of(content),
                    calls,
                    ..Message::default()
                });
            }
            Some("tool") => {
                let id = message["tool_call_id"]
                    .as_str()
                    .ok_or("tool_call_id is missing")?;
                read.push(Message {
                    text: text_of(content),
                    answers: vec![id.to_owned()],
                    ..Message::default()
                });
            }
            role => return Err(format!("messages[{at}] has the role {role:?}")),
        }
    }
    Ok((system, read))
}

fn anthropic(messages: &[Value]) -> Result<Vec<Message>, String> {
    let mut read = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let content = &message["content"];
        let parts = content.as_array().map(Vec::as_slice).unwrap_or_default();
        let is_assistant = match message["role"].as_str() {
            Some("assistant") if at > 0 => true,
            Some("user") => false,
            role => return Err(format!("messages[{at}] has the role {role:?}")),
        };
        if content.as_str() == Some("") || content.as_array().is_some_and(Vec::is_empty) {
            return Err(format!("messages[{at}] has no content"));
        }
        let mut one = Message {
            is_assistant,
            text: text_of(content),
            has_picture: has_part(content, "image"),
            ..Message::default()
        };
        for part in parts {
            match part["type"].as_str() {
                Some("tool_use") => {
                    let id = part["id"].as_str().ok_or("tool_use has no id")?;
                    if !part["input"].is_object() {
                        return Err("tool_use.input must be an object".into());
                    }
                    one.calls
                        .push((id.to_owned(), command_of(&part["name"], &part["input"])));
                }
                Some("tool_result") => {
                    let id = part["tool_use_id"]
                        .as_str()
                        .ok_or("tool_use_id is missing")?;
                    one.answers.push(id.to_owned());
                    one.text.push_str(&text_of(&part["content"]));
                }
                Some("text" | "image") => {}
                kind => return Err(format!("messages[{at}] has a part {kind:?}")),
            }
        }
        read.push(one);
    }
    Ok(read)
}

/// Every call must be answered before anything else is said.
fn answered(messages: &[Message]) -> Result<(), String> {
    let mut open: Vec<&String> = Vec::new();
    for message in messages {
        for id in &message.answers {
            let at = open.iter().position(|open| *open == id);
            open.remove(at.ok_or("a tool result answers no call")?);
        }
        if !open.is_empty() && message.answers.is_empty() {
            return Err("a tool call has no result".into());
        }
        open.extend(message.calls.iter().map(|(id, _)| id));
    }
    match open.is_empty() {
        true => Ok(()),
        false => Err("a tool call has no result".into()),
    }
}

fn command_of(name: &Value, arguments: &Value) -> String {
    match arguments["command"].as_str() {
        Some(command) => command.to_owned(),
        None => name.as_str().unwrap_or_default().to_owned(),
    }
}

/// Plain text, or the text parts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part["text"].as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn has_part(content: &Value, kind: &str) -> bool {
    let parts = content.as_array();
    parts.is_some_and(|parts| parts.iter().any(|part| part["type"] == kind))
}

/// The task of a prompt; of anything else the whole text.
fn task_of(first: &str) -> String {
    let Some(rest) = first.strip_prefix("The task:\n") else {
        return first.to_owned();
    };
    let ends = [
        "\n\nSecrets you may write:",
        "\n\nYou may be on these sites:",
    ];
    let end = ends.iter().filter_map(|end| rest.find(end)).min();
    rest[..end.unwrap_or(rest.len())].to_owned()
}
