//! A node's cable.

use anyhow::Result;

use super::Node;
use crate::lab::network::ip;

impl Node {
    /// Pulls its cable: the node loses its carrier and reaches nobody.
    ///
    /// # Errors
    ///
    /// When the node is off.
    pub fn cut_link(&self) -> Result<()> {
        ip(&self.netns, &["link", "set", &format!("vb-{}", self.name()), "down"])
    }

    /// Plugs its cable in again.
    ///
    /// # Errors
    ///
    /// When the node is off.
    pub fn restore_link(&self) -> Result<()> {
        ip(&self.netns, &["link", "set", &format!("vb-{}", self.name()), "up"])
    }
}
