//! Statements that go out together and share one signature: the hash tree of RFC 6962, section 2.1.
//!
//! The signature is that of the root. Each statement travels with its path to the root, so a receiver judges it
//! without the others, and sees only hashes of them. Leaves and nodes are hashed differently, so neither can be
//! taken for the other.

use sha2::{Digest, Sha256};

/// A hash of the tree.
pub type TreeHash = [u8; 32];

/// Why these hashes are no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a statement in a batch of 2 to {}", BatchPath::MOST)]
pub struct InvalidPath;

/// The path of one statement to the root of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPath {
    at: usize,
    of: usize,
    /// The other child of each node on the way, from the leaf on.
    hashes: Vec<TreeHash>,
}

impl BatchPath {
    /// Statements of a batch at most: a path has 8 hashes then.
    pub const MOST: usize = 256;

    /// The path of the statement at this place, counted from 0, in a batch of so many.
    ///
    /// # Errors
    /// When there is no such place, or its path has more hashes or fewer.
    pub fn new(at: usize, of: usize, hashes: Vec<TreeHash>) -> Result<Self, InvalidPath> {
        let formed = (2..=Self::MOST).contains(&of) && at < of && hashes.len() == levels(at, of).count();
        if formed { Ok(Self { at, of, hashes }) } else { Err(InvalidPath) }
    }

    /// The place of the statement in its batch.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// How many statements the batch has.
    pub const fn of(&self) -> usize {
        self.of
    }

    /// The hashes, from the leaf on.
    pub fn hashes(&self) -> &[TreeHash] {
        &self.hashes
    }

    /// The root to which the path leads from this statement.
    pub fn root(&self, statement: &[u8]) -> TreeHash {
        levels(self.at, self.of).zip(&self.hashes).fold(leaf(statement), |own, (is_right, other)| {
            if is_right { node(other, &own) } else { node(&own, other) }
        })
    }
}

/// The levels at which the node on the way from a leaf to the root has a sibling: whether it is the right one of
/// the two. The last node of a level may have none; it is one of the next level too.
fn levels(at: usize, of: usize) -> impl Iterator<Item = bool> {
    let nodes = std::iter::successors(Some((at, of)), |(at, of)| Some((at / 2, of.div_ceil(2))));
    nodes.take_while(|(_, of)| *of > 1).filter(|(at, of)| at ^ 1 < *of).map(|(at, _)| at % 2 == 1)
}

/// The root of the tree of these statements, and the path of each.
///
/// # Panics
/// Unless there are 2 to [`BatchPath::MOST`] of them.
pub fn tree<'a>(statements: impl IntoIterator<Item = &'a [u8]>) -> (TreeHash, Vec<BatchPath>) {
    let mut level: Vec<TreeHash> = statements.into_iter().map(leaf).collect();
    let of = level.len();
    assert!((2..=BatchPath::MOST).contains(&of), "a batch has 2 to {} statements", BatchPath::MOST);
    let mut paths: Vec<_> = (0..of).map(|at| BatchPath { at, of, hashes: Vec::with_capacity(8) }).collect();
    let mut height = 0;
    while level.len() > 1 {
        for path in &mut paths {
            path.hashes.extend(level.get((path.at >> height) ^ 1));
        }
        let pair = |pair: &[TreeHash]| match pair {
            [left, right] => node(left, right),
            alone => alone[0],
        };
        level = level.chunks(2).map(pair).collect();
        height += 1;
    }
    (level[0], paths)
}

fn leaf(statement: &[u8]) -> TreeHash {
    Sha256::new().chain_update([0]).chain_update(statement).finalize().into()
}

fn node(left: &TreeHash, right: &TreeHash) -> TreeHash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The tree as RFC 6962 defines it.
    fn defined(statements: &[Vec<u8>]) -> TreeHash {
        match statements {
            [one] => leaf(one),
            many => {
                let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
                node(&defined(left), &defined(right))
            }
        }
    }

    fn grown(statements: &[Vec<u8>]) -> (TreeHash, Vec<BatchPath>) {
        tree(statements.iter().map(Vec::as_slice))
    }

    /// The roots that implementations of Certificate Transparency test themselves with.
    #[test]
    fn the_tree_is_that_of_certificate_transparency() {
        let from = |range: std::ops::RangeInclusive<u8>| range.collect::<Vec<u8>>();
        let statements = [
            vec![],
            vec![0x00],
            vec![0x10],
            from(0x20..=0x21),
            from(0x30..=0x31),
            from(0x40..=0x43),
            from(0x50..=0x57),
            from(0x60..=0x6f),
        ];
        for (count, root) in [
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ] {
            let hex: String =
                grown(&statements[..count]).0.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, root, "{count}");
        }
    }

    #[test]
    fn each_place_has_a_path_of_its_own_in_a_batch_of_any_size() {
        for of in 2..=BatchPath::MOST {
            let statements: Vec<Vec<u8>> = (0..of).map(|number| number.to_be_bytes().to_vec()).collect();
            let (root, paths) = grown(&statements);
            assert_eq!((root, paths.len()), (defined(&statements), of));
            for (at, (path, statement)) in paths.iter().zip(&statements).enumerate() {
                assert_eq!((path.at(), path.of(), path.root(statement)), (at, of, root));
                assert_eq!(BatchPath::new(at, of, path.hashes().to_vec()).as_ref(), Ok(path));
                assert!(path.hashes().len() <= 8);
            }
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for (at, of, hashes) in [
            (0, 0, 0),
            (0, 1, 0),
            (2, 2, 1),
            (0, 2, 0),
            (0, 2, 2),
            (4, 5, 3),
            (3, 5, 1),
            (0, 256, 9),
            (0, 257, 9),
            (256, 257, 1),
            (0, usize::MAX, 64),
            (usize::MAX, 2, 1),
        ] {
            assert_eq!(BatchPath::new(at, of, vec![[0; 32]; hashes]), Err(InvalidPath), "{at} of {of}");
        }
        assert!(
            BatchPath::new(4, 5, vec![[0; 32]]).is_ok() && BatchPath::new(0, 256, vec![[0; 32]; 8]).is_ok()
        );
    }

    #[test]
    fn a_node_is_no_leaf() {
        let statements: Vec<Vec<u8>> = (0..4u8).map(|number| vec![number]).collect();
        let (root, paths) = grown(&statements);
        let inner = [leaf(&statements[0]), leaf(&statements[1])].concat();
        let above = BatchPath::new(0, 2, paths[0].hashes()[1..].to_vec()).expect("a path");
        assert_ne!(above.root(&inner), root);
    }

    proptest! {
        /// Whatever is exchanged leads to another root.
        #[test]
        fn a_path_leads_from_its_own_statement_alone(
            statements in proptest::collection::btree_set(proptest::collection::vec(any::<u8>(), 0..40), 2..40),
            [one, other, bit] in any::<[prop::sample::Index; 3]>(),
        ) {
            let statements: Vec<_> = statements.into_iter().collect();
            let (root, paths) = grown(&statements);
            let (at, beside) = (one.index(statements.len()), other.index(statements.len()));
            let path = &paths[at];
            prop_assert_eq!(path.root(&statements[at]), root);
            prop_assert_eq!(path.root(&statements[beside]) == root, at == beside);
            let mut changed = path.clone();
            let level = other.index(changed.hashes.len());
            changed.hashes[level][bit.index(32)] ^= 1 << (bit.index(256) / 32);
            prop_assert_ne!(changed.root(&statements[at]), root);
            if let Ok(moved) = BatchPath::new(beside, path.of, path.hashes.clone()) {
                prop_assert_eq!(moved.root(&statements[at]) == root, at == beside);
            }
            let mut turned = path.clone();
            turned.hashes.reverse();
            prop_assert_eq!(turned.root(&statements[at]) == root, turned == *path);
        }
    }
}
