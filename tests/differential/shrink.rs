//! Shrinks a case that shows a difference: removes commands and cuts as long as
//! the difference remains.

use crate::compare::Case;

/// Returns the smallest case that delta debugging finds.
pub(crate) fn shrink(case: Case, differs: &mut impl FnMut(&Case) -> Option<String>) -> Case {
    let mut case = without_cuts(case, differs);
    let mut pieces = 2;
    while case.commands.len() > 1 {
        match with_a_piece_removed(&case, pieces, differs) {
            Some(smaller) => {
                case = smaller;
                pieces = (pieces - 1).max(2);
            }
            None if pieces >= case.commands.len() => break,
            None => pieces = (pieces * 2).min(case.commands.len()),
        }
    }
    without_cuts(without_last(case, differs), differs)
}

fn without_last(case: Case, differs: &mut impl FnMut(&Case) -> Option<String>) -> Case {
    let shorter = Case {
        last: None,
        ..case.clone()
    };
    if differs(&shorter).is_some() {
        shorter
    } else {
        case
    }
}

fn without_cuts(case: Case, differs: &mut impl FnMut(&Case) -> Option<String>) -> Case {
    let whole = Case {
        cuts: None,
        ..case.clone()
    };
    if differs(&whole).is_some() {
        whole
    } else {
        case
    }
}

fn with_a_piece_removed(
    case: &Case,
    pieces: usize,
    differs: &mut impl FnMut(&Case) -> Option<String>,
) -> Option<Case> {
    let length = case.commands.len().div_ceil(pieces);
    (0..case.commands.len()).step_by(length).find_map(|start| {
        let end = (start + length).min(case.commands.len());
        let mut smaller = case.clone();
        smaller.commands.drain(start..end);
        differs(&smaller).map(|_| smaller)
    })
}
