//! The functions of the framework's own layers, by name.

use super::{
    Function, auditor, connector, control, files, hosts, ledger, link, logger, metrics, proxy,
    witness,
};
use crate::ident::Name;

/// The one of that name, if there is one.
pub(super) fn function(name: &Name) -> Option<Function> {
    Some(match name.as_str() {
        auditor::NAME => Function::from_blocking(|layer| auditor::run(&layer)),
        witness::NAME => Function::from_blocking(|layer| witness::run(&layer)),
        ledger::NAME => Function::from_blocking(|layer| ledger::run(&layer)),
        files::NAME => Function::from_blocking(|layer| files::run(&layer)),
        connector::NETWORK => Function::from_blocking(|layer| connector::run_network(&layer)),
        connector::PATHS => Function::from_blocking(|layer| connector::run_paths(&layer)),
        proxy::NAME => Function::from_blocking(|layer| proxy::run(&layer)),
        logger::NAME => Function::from_blocking(|layer| logger::run(&layer)),
        metrics::NAME => Function::from_blocking(|layer| metrics::run(&layer)),
        hosts::NAME => Function::from_blocking(|layer| hosts::run(&layer)),
        link::NAME => Function::from_blocking(|layer| link::run(&layer)),
        control::NAME => Function::from_blocking(|layer| control::run(&layer)),
        _ => return None,
    })
}
