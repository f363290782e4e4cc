//! What a program's environment says of the framework's proxy.

use std::collections::BTreeMap;

use crate::layer::proxy::ADDRESS;
use crate::policy::plan::{ConnectPlan, LayerPlan};

/// The variables by which programs find a proxy, as curl(1), Python, Go, git and others read them.
/// Most read small letters, some capitals; `HTTP_PROXY` is none of curl's, for web servers set it
/// from what strangers say.
const VARIABLES: [&str; 6] =
    ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// Has node look at them (node 24).
const NODE: &str = "NODE_USE_ENV_PROXY";

/// What is said to the program of a layer; nothing where it has no proxy.
pub(super) fn environment(layer: &LayerPlan) -> BTreeMap<String, String> {
    if !layer.connect.iter().any(ConnectPlan::is_proxied) {
        return BTreeMap::new();
    }
    let proxy = format!("http://{ADDRESS}");
    let variables = VARIABLES.iter().map(|name| ((*name).to_owned(), proxy.clone()));
    variables.chain([(NODE.to_owned(), "1".to_owned())]).collect()
}
