//! One unit with everything that applies to it: fragment and drop-ins, in systemd's order.

use std::rc::Rc;

use super::index::{DropIn, Index};
use crate::diagnostic::Span;
use crate::name::UnitName;
use crate::section::specifier;
use crate::text::{UnitText, Value};

/// All that is said of a unit on this node.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) id: String,
    pub(crate) fragment: Option<Rc<UnitText>>,
    pub(crate) dropins: Vec<(DropIn, Rc<UnitText>)>,
    /// The file or link that masks the unit.
    pub(crate) mask: Option<String>,
    /// Those of its own files that cannot be read, with what the system said.
    pub(crate) unread: Vec<String>,
}

impl View {
    /// What applies to the unit of this real name.
    pub(crate) fn of(index: &Index, id: &str) -> View {
        let path = index.fragment(id);
        let fragment = path.as_ref().and_then(|path| index.root.text(path));
        let mut unread: Vec<String> = path.iter().filter_map(|path| index.root.fault_of(path)).collect();
        let mut dropins = Vec::new();
        for dropin in index.dropins(id) {
            match index.root.text(&dropin.path) {
                Some(text) => dropins.push((dropin, text)),
                None if dropin.type_wide => {}
                None => unread.extend(index.root.fault_of(&dropin.path)),
            }
        }
        View { id: id.to_owned(), fragment, dropins, mask: index.mask(id), unread }
    }

    /// All texts in order of application.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &UnitText> {
        self.fragment.iter().chain(self.dropins.iter().map(|(_, t)| t)).map(Rc::as_ref)
    }

    /// The texts that may hold the unit's section: all but the drop-ins for a whole type.
    pub(crate) fn own_texts(&self) -> impl Iterator<Item = &UnitText> {
        let dropins = self.dropins.iter().filter(|(d, _)| !d.type_wide).map(|(_, t)| t);
        self.fragment.iter().chain(dropins).map(Rc::as_ref)
    }

    /// Where the unit is made a cluster unit.
    pub(crate) fn claim(&self) -> Option<&Span> {
        self.own_texts().find_map(|t| t.claim()).map(|h| &h.span)
    }

    /// The value in force of a setting that holds one value; `None` if unset or reset.
    pub(crate) fn last(&self, section: &str, key: &str) -> Option<&Value> {
        let values = self.texts().flat_map(|t| t.assignments.iter());
        let last = values.filter(|a| a.section == section && a.key == key).last()?;
        (!last.value.text.is_empty()).then_some(&last.value)
    }

    /// The unit names of a dependency setting, specifiers expanded (in a template `%i` stays), with their
    /// places. systemd lets nobody take a dependency back, so an empty value changes nothing.
    pub(crate) fn names(&self, section: &str, key: &str) -> Vec<(String, Span)> {
        let values = self.texts().flat_map(|t| t.assignments.iter());
        values
            .filter(|a| a.section == section && a.key == key)
            .flat_map(|a| a.value.words().collect::<Vec<_>>())
            .filter_map(|(word, span)| Some((specifier::expand_open(word, &self.id)?, span)))
            .collect()
    }

    /// Name of the section that holds the settings of the unit's type.
    pub(crate) fn type_section(&self) -> &'static str {
        match UnitName::parse(&self.id).map_or("", |n| n.kind) {
            "service" => "Service",
            "socket" => "Socket",
            "mount" => "Mount",
            "swap" => "Swap",
            "timer" => "Timer",
            "path" => "Path",
            _ => "Unit",
        }
    }
}
