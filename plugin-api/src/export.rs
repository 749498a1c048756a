//! The one line that makes a library a module.

/// Exports a type that implements [`Module`](crate::Module) as the module of this library.
///
/// ```ignore
/// export_module!(Filter);
/// export_module!(Filter, name: "filter-fast", version: "2.0.0");
/// ```
/// Name and version are those of the crate unless given. The library exports one symbol, `DINRAIL_MODULE_V1`, and carries its
/// descriptor in the section `.dinrail`. It does not compile with `panic = "abort"`: a panic would take the runtime with it.
///
/// It also makes a [`CountingAllocator`](crate::CountingAllocator) the allocator of the library, so that `dinrail list` knows
/// its memory. With an allocator of your own (the compiler says "cannot define multiple global allocators"), end the list with
/// `allocator: none`: `export_module!(Filter, allocator: none)`.
#[macro_export]
macro_rules! export_module {
    ($module:ty $(, name: $name:expr)? $(, version: $version:expr)?, allocator: none $(,)?) => {
        $crate::export_module!(@name ($module) ($($name)?) ($($version)?));
    };
    ($module:ty $(, name: $name:expr)? $(, version: $version:expr)? $(,)?) => {
        #[global_allocator]
        static DINRAIL_ALLOCATOR: $crate::CountingAllocator = $crate::CountingAllocator::new(::std::alloc::System);

        $crate::export_module!(@name ($module) ($($name)?) ($($version)?));
    };
    (@name ($module:ty) () $version:tt) => {
        $crate::export_module!(@version ($module) (env!("CARGO_PKG_NAME")) $version);
    };
    (@name ($module:ty) $name:tt $version:tt) => {
        $crate::export_module!(@version ($module) $name $version);
    };
    (@version ($module:ty) $name:tt ()) => {
        $crate::export_module!(@table ($module) $name (env!("CARGO_PKG_VERSION")));
    };
    (@version ($module:ty) $name:tt $version:tt) => {
        $crate::export_module!(@table ($module) $name $version);
    };
    (@table ($module:ty) ($name:expr) ($version:expr)) => {
        #[cfg(panic = "abort")]
        compile_error!("a dinrail module needs `panic = \"unwind\"`: with \"abort\" its first panic would end the runtime");

        const _: () = {
            const FACTS: $crate::__private::Facts = $crate::__private::Facts {
                name: $name,
                version: $version,
                description: env!("CARGO_PKG_DESCRIPTION"),
                inputs: <$module as $crate::Module>::INPUTS,
                outputs: <$module as $crate::Module>::OUTPUTS,
                methods: <$module as $crate::Module>::METHODS,
                trial_safe: <$module as $crate::Module>::TRIAL_SAFE,
                exclusive: <$module as $crate::Module>::EXCLUSIVE,
            };

            #[used]
            #[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".dinrail"))]
            #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,.dinrail"))]
            static DESCRIPTOR: [u8; $crate::__private::length(&FACTS)] = $crate::__private::write(&FACTS);

            #[unsafe(no_mangle)]
            static DINRAIL_MODULE_V1: $crate::abi::DrModule = $crate::__private::table::<$module>(&DESCRIPTOR);
        };
    };
}
