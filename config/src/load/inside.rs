//! Values with an inside, and where secrets stand in the clear.

use super::{Fault, From, Loading, SETTINGS};
use crate::fields::{Judging, holds_clear_secret};
use crate::read::{Format, read};
use crate::schema::Kind;
use crate::tree::{Entry, Mark, Node, Value};
use crate::work::layers;

impl Loading<'_> {
    /// A value of a key as its type; each thing wrong in it becomes a fault. `place` says where a
    /// mark of a file is; without it the value is a stored setting, which names no files. What has
    /// no mark stands where `at` is.
    pub(super) fn inside(
        &mut self,
        kind: Kind,
        node: &Node,
        key: &str,
        place: Option<&dyn Fn(Mark) -> String>,
        at: Mark,
    ) -> Option<Node> {
        let mut judging = Judging {
            files: place.map(|_| self.read_file),
            found: Vec::new(),
        };
        let json = judging.judge(kind, node, "");
        for one in judging.found {
            let at = if one.at.line == 0 { at } else { one.at };
            let place = place.map_or_else(|| SETTINGS.to_owned(), |place| place(at));
            self.fault(place, format!("{key}: {}", one.message));
        }
        json.map(|json| Node {
            at: node.at,
            ..Node::from_json(&json)
        })
    }

    /// The same of the text of a variable or argument, which is JSON.
    pub(super) fn inside_text(
        &mut self,
        kind: Kind,
        text: &str,
        key: &str,
        name: &str,
    ) -> Option<Node> {
        let text = match (kind, text) {
            (Kind::List(_), "") => "[]",
            _ => text,
        };
        let Ok(node) = read(Format::Json, text.as_bytes()) else {
            let wanted = kind.wanted();
            self.fault(name, format!("{key}: must be {wanted} in JSON"));
            return None;
        };
        let place = |_| name.to_owned();
        self.inside(kind, &node, key, Some(&place), Mark::default())
    }

    /// Sets a key, if its value is good.
    pub(super) fn settle(
        &mut self,
        from: From,
        source: &str,
        path: Vec<String>,
        node: Option<Node>,
    ) {
        let Some(node) = node else { return };
        let tree = path.into_iter().rev().fold(node, |node, name| {
            let at = Mark::default();
            Node::bare(Value::Map(vec![Entry { name, at, node }]))
        });
        self.layer(from, source.to_owned(), false, tree);
    }

    /// Says which secrets of a file that everybody may read stand there in the clear. Of those
    /// below `secure` it is no warning.
    pub(super) fn warn_of_clear_secrets(&mut self, tree: &Node, under: &[String], name: &str) {
        let whole = layers::under(under, tree.clone());
        let hiding = self.schema.keys.iter();
        let hiding = hiding.filter(|key| key.kind.may_hide() && !key.path.starts_with("secure."));
        let clear = hiding.filter(|key| {
            let mut parts = key.path.split('.');
            let node = parts.try_fold(&whole, |node, part| node.get(part));
            node.is_some_and(|node| holds_clear_secret(key.kind, node))
        });
        for key in clear {
            let path = key.path;
            let text = "is in the clear in a file that everybody may read";
            self.warnings.push(Fault {
                place: name.to_owned(),
                message: format!("{path}: {text}: chmod o= {name}"),
            });
        }
    }
}
