//! What the readers of agents' metadata share.

use roxmltree::Node;

/// The children of that name.
pub(crate) fn children<'a, 'i: 'a>(
    node: Node<'a, 'i>,
    tag: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.has_tag_name(tag))
}

/// The items of a list below a node.
pub(crate) fn below<'a, 'i: 'a>(
    root: Node<'a, 'i>,
    list: &'static str,
    item: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    children(root, list).flat_map(move |list| children(list, item))
}

/// The attribute `name`, if it says something.
pub(crate) fn name(node: Node<'_, '_>) -> Option<String> {
    let name = node.attribute("name").map(str::trim).filter(|name| !name.is_empty());
    name.map(str::to_owned)
}

/// Whether an attribute says yes.
pub(crate) fn yes(node: Node<'_, '_>, attribute: &str) -> bool {
    matches!(node.attribute(attribute), Some("1" | "true" | "yes"))
}

/// Descriptions are broken over lines and indented as it came.
pub(crate) fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
