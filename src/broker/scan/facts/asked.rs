//! What a compiler is asked of itself, and the source that asks it.

use crate::broker::scan::macros::Builtin;

/// Names that may be computed at each use; which of them are is asked.
pub const COMPUTED: &[(&str, Builtin)] = &[
    ("__FILE__", Builtin::File),
    ("__BASE_FILE__", Builtin::BaseFile),
    ("__INCLUDE_LEVEL__", Builtin::IncludeLevel),
    ("__LINE__", Builtin::Unknown),
    ("__DATE__", Builtin::Unknown),
    ("__TIME__", Builtin::Unknown),
    ("__TIMESTAMP__", Builtin::Unknown),
    ("__COUNTER__", Builtin::Unknown),
    ("__FILE_NAME__", Builtin::Unknown),
    ("__has_include", Builtin::HasInclude),
    ("__has_include_next", Builtin::HasIncludeNext),
    ("__has_embed", Builtin::Unknown),
    ("__building_module", Builtin::Question),
    ("__has_attribute", Builtin::Question),
    ("__has_cpp_attribute", Builtin::Question),
    ("__has_c_attribute", Builtin::Question),
    ("__has_declspec_attribute", Builtin::Question),
    ("__has_builtin", Builtin::Question),
    ("__has_feature", Builtin::Question),
    ("__has_extension", Builtin::Question),
    ("__has_constexpr_builtin", Builtin::Question),
    ("__has_warning", Builtin::Question),
    ("__is_identifier", Builtin::Question),
    ("__is_target_arch", Builtin::Question),
    ("__is_target_vendor", Builtin::Question),
    ("__is_target_os", Builtin::Question),
    ("__is_target_environment", Builtin::Question),
    ("__is_target_variant_os", Builtin::Question),
    ("__is_target_variant_environment", Builtin::Question),
];

/// A macro that clang (since 15) computes, leaves out of what it lists, and has one value for in all of a unit:
/// `#pragma clang fp eval_method` changes how it computes, but then the name is an error (clang's language
/// extensions, "Extensions to specify floating-point flags").
pub const CONSTANT: &str = "__FLT_EVAL_METHOD__";

/// Asked along with everything else: what common headers ask.
const COMMON: &[(&str, &[&str])] = &[
    (
        "__has_attribute",
        &[
            "__nonnull__",
            "__nonnull",
            "__noreturn__",
            "noreturn",
            "__unused__",
            "unused",
            "__deprecated__",
            "deprecated",
            "__always_inline__",
            "always_inline",
            "__warn_unused_result__",
            "warn_unused_result",
            "__format__",
            "__fallthrough__",
            "fallthrough",
            "__nothrow__",
            "__pure__",
            "__const__",
            "__malloc__",
            "__aligned__",
            "__packed__",
            "__visibility__",
            "visibility",
            "__alloc_size__",
            "__alloc_align__",
            "__access__",
            "__no_sanitize__",
            "no_sanitize",
            "no_sanitize_address",
            "__noinline__",
            "noinline",
            "__cold__",
            "__hot__",
            "__artificial__",
            "__leaf__",
            "__nonstring__",
            "__copy__",
            "__symver__",
            "__gnu_inline__",
            "__designated_init__",
            "__assume_aligned__",
            "__externally_visible__",
            "__no_profile_instrument_function__",
            "__error__",
            "__may_alias__",
            "__section__",
            "__used__",
            "__weak__",
            "__retain__",
            "__sentinel__",
            "__cleanup__",
            "__flag_enum__",
            "__counted_by__",
        ],
    ),
    (
        "__has_cpp_attribute",
        &[
            "nodiscard",
            "maybe_unused",
            "fallthrough",
            "deprecated",
            "noreturn",
            "likely",
            "unlikely",
            "no_unique_address",
            "carries_dependency",
            "gnu::unused",
            "gnu::noreturn",
            "clang::fallthrough",
            "assume",
        ],
    ),
    (
        "__has_builtin",
        &[
            "__builtin_expect",
            "__builtin_unreachable",
            "__builtin_trap",
            "__builtin_assume",
            "__builtin_bswap16",
            "__builtin_bswap32",
            "__builtin_bswap64",
            "__builtin_constant_p",
            "__builtin_add_overflow",
            "__builtin_clz",
            "__builtin_is_constant_evaluated",
            "__builtin_launder",
            "__builtin_bit_cast",
            "__builtin_addressof",
            "__has_unique_object_representations",
            "__is_aggregate",
            "__is_constructible",
            "__builtin_source_location",
            "__builtin_memcmp",
            "__builtin_assume_aligned",
            "__builtin_prefetch",
            "__builtin_rotateleft32",
            "__builtin_object_size",
        ],
    ),
    (
        "__has_feature",
        &[
            "address_sanitizer",
            "thread_sanitizer",
            "memory_sanitizer",
            "undefined_behavior_sanitizer",
            "cxx_rtti",
            "cxx_exceptions",
            "modules",
            "c_static_assert",
            "cxx_static_assert",
        ],
    ),
];

/// A source whose preprocessed text tells how the compiler lexes.
pub fn probe() -> Vec<u8> {
    let mut text = String::from(
        "#define distcc_yes YES\n\
         distcc@raw R\"(\")\" = distcc_yes \"\n\
         distcc@separator 1'0 = distcc_yes '\n\
         distcc@trigraph \"??/\" = distcc_yes \"\n\
         distcc@line = distcc_yes // no\n\
         #if true\ndistcc@truth = YES\n#endif\n\
         #if 0\n#elifdef __FILE__\ndistcc@elifdef = YES\n#endif\n\
         #if __cplusplus > 201703L && defined __clang__ || defined __cpp_modules\ndistcc@modules = YES\n#endif\n",
    );
    text.push_str(&format!("#ifdef {CONSTANT}\ndistcc@constant = {CONSTANT}\n#endif\n"));
    for (name, _) in COMPUTED {
        text.push_str(&format!("#ifdef {name}\ndistcc@defined {name}_ = YES\n#endif\n"));
    }
    for (name, arguments) in COMMON {
        text.push_str(&format!("#ifdef {name}\n"));
        for argument in *arguments {
            text.push_str(&format!("distcc@ask \"{name}({argument})\" = {name}({argument})\n"));
        }
        text.push_str("#endif\n");
    }
    text.into_bytes()
}
