//! A tree's Kconfig files, read: which symbols there are, and all that decides their values.
//!
//! Pure: it asks its caller for files. Not a Kconfig interpreter, but a reader that follows `source`, `if`, `menu` and
//! `choice` and keeps what stands below each `config`. [`super::why`] draws the conclusions.

use std::collections::BTreeMap;

use super::expression::Expression;
use super::statement::{Clause, Statement};

/// How deep files may include each other.
const DEEPEST: u32 = 24;

/// The symbols of a tree.
#[derive(Debug, Default)]
pub struct Tree {
    /// Symbol → its definitions; a few have more than one.
    symbols: BTreeMap<String, Vec<Definition>>,
    /// Symbol → what can turn it on, whoever asks.
    selectors: BTreeMap<String, Vec<Selector>>,
    /// Choice → its members.
    choices: Vec<Vec<String>>,
}

/// What stands below one `config`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definition {
    /// When its prompt is shown, but for the dependencies; none if nobody can set it by hand.
    pub prompt: Option<Expression>,
    /// What it depends on, from the blocks around it to its own lines.
    pub depends: Vec<Expression>,
    /// The choice it is a member of.
    choice: Option<usize>,
}

/// A symbol that selects another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The symbol.
    pub symbol: String,
    /// When it does.
    pub condition: Expression,
}

/// A block that is open: what all in it depends on.
#[derive(Debug, Default)]
struct Block {
    depends: Vec<Expression>,
    choice: Option<usize>,
}

/// What the clauses of the current line belong to.
enum Entry {
    Symbol(String),
    /// A `menu` or `choice`, whose own `depends on` lines follow it.
    Block,
    Nothing,
}

impl Tree {
    /// Reads the tree from its top `Kconfig`; `read` gives the text of a file, `None` if there is none.
    pub fn read(read: &dyn Fn(&str) -> Option<String>) -> Tree {
        let mut tree = Tree::default();
        tree.file("Kconfig", &mut Vec::new(), read, 0);
        tree
    }

    fn file(&mut self, path: &str, blocks: &mut Vec<Block>, read: &dyn Fn(&str) -> Option<String>, depth: u32) {
        let Some(text) = read(path).filter(|_| depth < DEEPEST) else { return };
        let outside = blocks.len();
        let mut entry = Entry::Nothing;
        for statement in super::statement::statements(&text) {
            entry = match statement {
                Statement::Config(name) => {
                    self.define(&name, blocks);
                    Entry::Symbol(name)
                }
                Statement::If(condition) => {
                    blocks.push(Block { depends: vec![condition], choice: None });
                    Entry::Nothing
                }
                Statement::Menu => {
                    blocks.push(Block::default());
                    Entry::Block
                }
                Statement::Choice => {
                    blocks.push(Block { choice: Some(self.choices.len()), ..Block::default() });
                    self.choices.push(Vec::new());
                    Entry::Block
                }
                Statement::End => {
                    if blocks.len() > outside {
                        blocks.pop();
                    }
                    Entry::Nothing
                }
                Statement::Source(path) => {
                    self.file(&path, blocks, read, depth + 1);
                    Entry::Nothing
                }
                Statement::Clause(clause) => {
                    self.clause(clause, &entry, blocks);
                    entry
                }
                Statement::Other => Entry::Nothing,
            };
        }
        blocks.truncate(outside);
    }

    /// Begins a definition with all that the blocks around it say.
    fn define(&mut self, name: &str, blocks: &[Block]) {
        let depends = blocks.iter().flat_map(|block| block.depends.iter().cloned()).collect();
        let choice = blocks.iter().rev().find_map(|block| block.choice);
        if let Some(members) = choice.and_then(|choice| self.choices.get_mut(choice)) {
            members.push(name.to_owned());
        }
        let definition = Definition { depends, choice, ..Definition::default() };
        self.symbols.entry(name.to_owned()).or_default().push(definition);
    }

    fn clause(&mut self, clause: Clause, entry: &Entry, blocks: &mut [Block]) {
        let definition = match entry {
            Entry::Symbol(name) => self.symbols.get_mut(name).and_then(|definitions| definitions.last_mut()),
            _ => None,
        };
        match (clause, entry, definition) {
            (Clause::Depends(condition), Entry::Block, _) => {
                if let Some(block) = blocks.last_mut() {
                    block.depends.push(condition);
                }
            }
            (Clause::Select(symbol, condition), Entry::Symbol(name), _) => {
                let selector = Selector { symbol: name.clone(), condition };
                self.selectors.entry(symbol).or_default().push(selector);
            }
            (Clause::Depends(condition), _, Some(definition)) => definition.depends.push(condition),
            (Clause::Prompt(condition), _, Some(definition)) => definition.prompt = Some(condition),
            _ => {}
        }
    }

    /// Whether any file defines `symbol`.
    pub fn knows(&self, symbol: &str) -> bool {
        self.symbols.contains_key(symbol)
    }

    /// All definitions of `symbol`.
    pub fn definitions(&self, symbol: &str) -> &[Definition] {
        self.symbols.get(symbol).map_or(&[], Vec::as_slice)
    }

    /// What selects `symbol`.
    pub fn selectors(&self, symbol: &str) -> &[Selector] {
        self.selectors.get(symbol).map_or(&[], Vec::as_slice)
    }

    /// The other members of the choice that `symbol` is in.
    pub fn rivals<'t>(&'t self, symbol: &'t str) -> impl Iterator<Item = &'t str> {
        let choice = self.definitions(symbol).iter().find_map(|definition| definition.choice);
        let members = choice.and_then(|choice| self.choices.get(choice)).map_or(&[] as &[String], Vec::as_slice);
        members.iter().map(String::as_str).filter(move |member| *member != symbol)
    }

    /// All symbols.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.symbols.keys().map(String::as_str)
    }
}
