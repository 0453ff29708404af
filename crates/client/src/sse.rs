//! Server-sent events: bytes, split anywhere, into messages, as the WHATWG's HTML standard says.

/// A line or message larger than this is no message of Dure's.
const LARGEST: usize = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `message` where the server names none.
    pub event: String,
    pub data: String,
    /// The last id so far; empty before the first.
    pub id: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a server-sent event is larger than {} MiB", LARGEST >> 20)]
pub struct TooLarge;

#[derive(Debug, Default)]
pub struct Parser {
    /// What has come of the line.
    line: Vec<u8>,
    /// The line ended with CR; a LF right behind it belongs to that end.
    after_cr: bool,
    started: bool,
    event: String,
    data: String,
    has_data: bool,
    id: String,
}

impl Parser {
    /// The messages that these bytes complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, TooLarge> {
        let mut messages = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            match rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                Some(end) => {
                    self.grow(&rest[..end])?;
                    self.after_cr = rest[end] == b'\r';
                    rest = &rest[end + 1..];
                    let line = std::mem::take(&mut self.line);
                    messages.extend(self.line(&line));
                }
                None => {
                    self.grow(rest)?;
                    break;
                }
            }
        }
        Ok(messages)
    }

    fn grow(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        if self.line.len() + self.data.len() + bytes.len() > LARGEST {
            return Err(TooLarge);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Option<Message> {
        // A line is decoded as a whole, so that no character is cut between two pieces.
        let text = String::from_utf8_lossy(line);
        let text = if std::mem::replace(&mut self.started, true) {
            &*text
        } else {
            text.strip_prefix('\u{feff}').unwrap_or(&text)
        };
        if text.is_empty() {
            return self.finish();
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            // Comments begin with a colon; `retry` and what later standards add are not for us.
            _ => {}
        }
        None
    }

    fn finish(&mut self) -> Option<Message> {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        std::mem::take(&mut self.has_data).then(|| Message {
            event: if event.is_empty() { "message".to_owned() } else { event },
            data,
            id: self.id.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{feff}: hello\n\nevent: log\nid: 6\ndata: \"안녕\"\n\n:keep\r\n\r\ndata: a\rdata\rdata:  b\r\rid: 7\n\nretry: 5\nevent: end\r\ndata:{}\r\n\r\ndata: unfinished";

    fn messages(pieces: &[&[u8]]) -> Vec<(String, String, String)> {
        let mut parser = Parser::default();
        let mut messages = Vec::new();
        for piece in pieces {
            messages.extend(parser.push(piece).unwrap());
        }
        messages.into_iter().map(|message| (message.event, message.data, message.id)).collect()
    }

    #[test]
    fn messages_are_the_same_wherever_the_bytes_are_split() {
        let whole = messages(&[STREAM.as_bytes()]);
        let expected = [("log", "\"안녕\"", "6"), ("message", "a\n\n b", "6"), ("end", "{}", "7")];
        assert_eq!(whole, expected.map(|(event, data, id)| (event.to_owned(), data.to_owned(), id.to_owned())));
        for at in 0..STREAM.len() {
            let (left, right) = STREAM.as_bytes().split_at(at);
            assert_eq!(messages(&[left, right]), whole, "split at {at}");
        }
        let single: Vec<&[u8]> = STREAM.as_bytes().chunks(1).collect();
        assert_eq!(messages(&single), whole);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..20).any(|_| parser.push(&piece) == Err(TooLarge));
        assert!(refused);
    }
}
