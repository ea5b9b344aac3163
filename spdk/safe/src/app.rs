//! Registration with an application whose `main` is SPDK's.

/// Calls a function, `fn()`, when the program is loaded, before `main`. SPDK's modules, subsystems
/// and RPCs are registered at this point. SPDK is not initialised yet, so the function may do
/// nothing else.
#[macro_export]
macro_rules! constructor {
    ($function:path) => {
        const _: () = {
            extern "C" fn run() {
                $crate::log::register_flag();
                $function();
            }
            // SAFETY: the section of functions without arguments that the C runtime calls before
            // `main`.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static CONSTRUCTOR: extern "C" fn() = run;
        };
    };
}
