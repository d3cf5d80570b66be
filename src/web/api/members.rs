//! Where a member of a body is, for the person who is told of it.

/// The pointer to a member (RFC 6901), cut where a name is absurdly long.
pub fn pointer(name: &str) -> String {
    const MAX: usize = 200;
    let mut pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    if let Some((cut, _)) = pointer.char_indices().nth(MAX) {
        pointer.truncate(cut);
        pointer.push('…');
    }
    pointer
}
