//! Named sets and maps.

use super::{Parsed, Parser};
use crate::rules::ast::{Contents, Set, SetType};
use crate::rules::diagnostic::Problem;
use crate::rules::lexer::Kind;
use crate::rules::unsupported;

impl<'t> Parser<'t, '_> {
    /// What stands behind `set` or `map`.
    pub(super) fn named_set(&mut self, is_map: bool) -> Parsed<Set<'t>> {
        let name = self.word("a name")?;
        self.expect(Kind::OpenBrace, "`{`")?;
        let mut set = Set {
            name,
            kind: None,
            interval: false,
            auto_merge: false,
            contents: if is_map {
                Contents::Map(Vec::new())
            } else {
                Contents::Set(Vec::new())
            },
            damaged: false,
        };
        self.block(name.span, &["table", "chain"], |parser| {
            if parser.set_part(&mut set).is_err() {
                set.damaged = true;
                parser.skip_statement();
            }
        });
        Ok(set)
    }

    fn set_part(&mut self, set: &mut Set<'t>) -> Parsed<()> {
        let word = self.word("`type`, `flags` or `elements`")?;
        match word.text {
            "type" => {
                let mut names = vec![self.word("a type, as `ipv4_addr`")?];
                while self.peek().kind == Kind::Dot {
                    self.bump();
                    names.push(self.word("a type, as `inet_service`")?);
                }
                set.kind = Some(SetType::Names(names));
                self.map_type(set)?;
            }
            "typeof" => {
                let first = self.word("a field, as `ip saddr`")?;
                set.kind = Some(SetType::Fields(self.key(first)?));
                self.map_type(set)?;
            }
            "flags" => loop {
                let flag = self.word("a flag")?;
                match flag.text {
                    "interval" => set.interval = true,
                    "constant" => {}
                    other => {
                        let message = format!("sets with the flag `{other}` are not supported");
                        let problem = Problem::new(flag.span, message, "");
                        return self.fail(problem.hint(
                            "packets cannot change a set: write its elements, with `flags \
                             interval` if there are ranges",
                        ));
                    }
                }
                if self.peek().kind != Kind::Comma {
                    break;
                }
                self.bump();
            },
            "auto-merge" => set.auto_merge = true,
            // Room for elements to come; there are none to come.
            "size" => {
                self.number("a number of elements")?;
            }
            "comment" => {
                self.comment()?;
            }
            "elements" => {
                self.expect(Kind::Assign, "`=`")?;
                match &mut set.contents {
                    Contents::Set(all) => all.push(self.expr()?),
                    Contents::Map(all) => all.push(self.mappings()?),
                }
            }
            other => {
                let message = format!("`{other}` is not supported in a set");
                let problem = Problem::new(word.span, message, "");
                let hint = unsupported::in_set(other).unwrap_or(
                    "it takes `type`, `typeof`, `flags interval`, `auto-merge`, `size`, \
                     `comment` and `elements = { ... }`",
                );
                return self.fail(problem.hint(hint));
            }
        }
        self.end_of_statement();
        Ok(())
    }

    /// `: verdict` of a map.
    fn map_type(&mut self, set: &Set<'t>) -> Parsed<()> {
        match (&set.contents, self.peek().kind) {
            (Contents::Set(_), Kind::Colon) => {
                let problem = Problem::new(self.peek().span, "a set maps to nothing", "");
                self.fail(problem.hint("write `map` instead of `set`"))
            }
            (Contents::Set(_), _) => Ok(()),
            (Contents::Map(_), _) => {
                if self.peek().kind != Kind::Colon {
                    let problem = self.unexpected("`: verdict`");
                    return self
                        .fail(problem.hint("a map needs a type such as `ipv4_addr : verdict`"));
                }
                self.bump();
                let to = self.word("`verdict`")?;
                if to.text == "verdict" {
                    return Ok(());
                }
                let message = format!("maps to `{}` are not supported", to.text);
                let problem = Problem::new(to.span, message, "");
                self.fail(problem.hint("only maps to `verdict` are, for `KEY vmap @name`"))
            }
        }
    }
}
