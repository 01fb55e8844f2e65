//! Cuts in the networks of a lab. They outlive power cycles of the nodes, and end when they are healed.

use anyhow::Result;

use crate::lab::Lab;
use crate::net;
use crate::place::Wire;

impl Lab {
    /// Cuts a node off the data network: nothing passes, its link stays up, its management network works.
    pub fn cut(&self, i: usize) -> Result<()> {
        net::set(&self.place, "isolated", &[quoted(&self.place.link(i, Wire::Data))], true)
    }

    /// Ends [`cut`](Self::cut).
    pub fn heal(&self, i: usize) -> Result<()> {
        net::set(&self.place, "isolated", &[quoted(&self.place.link(i, Wire::Data))], false)
    }

    /// Cuts a node off the management network: it reaches no power switch.
    pub fn cut_management(&self, i: usize) -> Result<()> {
        net::set(&self.place, "isolated", &[quoted(&self.place.link(i, Wire::Management))], true)
    }

    /// Ends [`cut_management`](Self::cut_management).
    pub fn heal_management(&self, i: usize) -> Result<()> {
        net::set(&self.place, "isolated", &[quoted(&self.place.link(i, Wire::Management))], false)
    }

    /// Cuts two nodes apart, both ways; each still reaches all others.
    pub fn cut_link(&self, a: usize, b: usize) -> Result<()> {
        net::set(&self.place, "cut", &[self.pair(a, b), self.pair(b, a)], true)
    }

    /// Ends [`cut_link`](Self::cut_link).
    pub fn heal_link(&self, a: usize, b: usize) -> Result<()> {
        net::set(&self.place, "cut", &[self.pair(a, b), self.pair(b, a)], false)
    }

    /// Drops what `from` sends to `to`; the other way works.
    pub fn cut_one_way(&self, from: usize, to: usize) -> Result<()> {
        net::set(&self.place, "cut", &[self.pair(from, to)], true)
    }

    /// Ends [`cut_one_way`](Self::cut_one_way).
    pub fn heal_one_way(&self, from: usize, to: usize) -> Result<()> {
        net::set(&self.place, "cut", &[self.pair(from, to)], false)
    }

    /// Ends every cut.
    pub fn heal_all(&self) -> Result<()> {
        net::heal_all(&self.place)
    }

    fn pair(&self, from: usize, to: usize) -> String {
        let link = |i| quoted(&self.place.link(i, Wire::Data));
        format!("{} . {}", link(from), link(to))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}
