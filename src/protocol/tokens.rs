//! The tokens of a command line.

use crate::protocol::scan::until_space;

/// Splits a line into tokens separated by one or more spaces. Leading and
/// trailing spaces are ignored.
pub fn tokens(line: &[u8]) -> Tokens<'_> {
    Tokens { rest: line }
}

/// Iterator over the tokens of a line; see [`tokens`].
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// Returns the part of the line behind the last token returned.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
        if self.rest.is_empty() {
            return None;
        }
        let (token, rest) = self.rest.split_at(until_space(self.rest));
        self.rest = rest;
        Some(token)
    }
}
