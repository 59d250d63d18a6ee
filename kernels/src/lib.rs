//! Block formats and every numeric operation Burn lacks or does slowly.

