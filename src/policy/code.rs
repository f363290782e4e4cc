//! The codes of mistakes: stable numbers, one line each.

use std::fmt;

macro_rules! codes {
    ($($variant:ident = $number:literal, $title:literal;)*) => {
        /// The kind of a mistake. Its number never changes and is never used again for another.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code, by number.
            pub const ALL: &[Code] = &[$(Self::$variant),*];

            /// The number: 107 of `E0107`.
            pub const fn number(self) -> u16 {
                match self { $(Self::$variant => $number),* }
            }

            /// What is wrong, in one line.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }
        }
    };
}

codes! {
    // The file and its syntax.
    NotUtf8 = 101, "the file is not UTF-8";
    ByteOrderMark = 102, "the file begins with a byte order mark";
    TooLarge = 103, "the file is too large";
    Syntax = 104, "this is not TOML";
    Duplicate = 105, "something is defined twice";
    Version = 106, "the version of the policy language is missing or unknown";

    // Keys and values.
    UnknownKey = 107, "a key that the policy language does not have";
    NotBuiltYet = 108, "a part of the policy language that is not built yet";
    WrongType = 109, "a value of the wrong type";
    Missing = 110, "a required key is missing";
    BadName = 111, "a name breaks the rules for names";
    UnknownWord = 112, "a word that this key does not take";
    BadSize = 113, "a size that can't be read";
    BadDuration = 114, "a duration that can't be read";
    BadAddress = 115, "an address that can't be read";
    OutOfRange = 116, "a number is out of range";
    Empty = 117, "nothing is granted or listed";
    Repeated = 118, "the same thing is listed twice";
    EmptyBecause = 119, "a reason without words";

    // Several files, variables, the ceiling.
    Include = 120, "a file that can't be included";
    IncludeCycle = 121, "a file that is included more than once";
    UndefinedVariable = 122, "a variable that is not declared";
    UnusedVariable = 123, "a variable that nothing uses";
    AboveCeiling = 124, "a grant above the ceiling";

    // More values.
    BadRate = 125, "a rate that can't be read";
    RateNonsense = 126, "a rate that makes no sense";
    Contradiction = 127, "settings that contradict each other";

    // Layers.
    NoProgram = 130, "a layer has nothing to run";
    TwoPrograms = 131, "a layer has two things to run";
    BadExec = 132, "the program of an exec layer can't be run";
    AddressTaken = 133, "two sockets listen on one address";
    RestartNonsense = 134, "restart settings that contradict each other";
    UnknownProtection = 135, "an unknown protection in optional";
    BadEnvironment = 136, "an environment that can't be set";
    UnknownCapability = 137, "an unknown capability";
    SharedUid = 138, "two layers have the same user";
    NoLayer = 139, "a policy without layers";

    // System calls.
    UnknownCall = 140, "an unknown system call, group or condition";
    RefusedAndGranted = 141, "a call is refused and granted";
    UnknownErrno = 142, "an unknown errno";
    FixedAnswer = 143, "a call whose answer no policy changes";
    FilterTooLong = 144, "more conditions than the kernel takes";

    // Dangerous grants.
    NeedsBecause = 150, "a dangerous grant without a reason";

    // Channels.
    UnknownLayer = 160, "a layer that is not defined";
    ToItself = 161, "a channel from a layer to itself";
    DescriptorKinds = 162, "descriptors whose number and kinds disagree";
    MethodTooLarge = 163, "a method larger than its channel";
    UnknownMethod = 165, "a method that comes after one that is not there";
    MethodCycle = 166, "methods that wait for each other";
    CallCycle = 167, "layers that call each other in a circle";
    ForeignEnd = 168, "a foreign program at an end that it can't use";
    NobodyOpens = 169, "an end that nobody opens";

    // Files.
    BadPath = 170, "a path that is not absolute and plain";
    PathTwice = 171, "two grants on one path";
    UnsafeFile = 172, "somebody else can change the policy file";
    Overlap = 173, "paths within each other with different rights";
    UnusableFile = 174, "a file grant without the system calls to use it";
    UnusableCalls = 175, "system calls for files, and no file to use them on";
    NotHere = 176, "something that this machine doesn't have as the policy says";
    LedAstray = 177, "a socket whose path a layer could lead elsewhere";
    KeptFile = 178, "a single file that a program keeps when it is replaced";

    // The other facilities.
    UnknownSignal = 180, "an unknown signal";
    GrantTwice = 181, "the same thing is granted in two places";
    KernelSetting = 182, "a size that the kernel gives only to some";
    KernelRefuses = 183, "a size that the kernel refuses or changes";
    LockOrder = 184, "semaphores whose order can't be told";
    OneSided = 185, "shared memory that is not shared";
    UnknownPipe = 186, "a pipe that is not defined";
    BadMode = 187, "a mode that can't be given";
    PermitAndCall = 188, "a permit and a call that can wait for each other";

    // The whole.
    Idle = 190, "a layer that can do nothing";
    UnknownObject = 191, "an object that the policy does not have";
    NeverBroken = 192, "what must never be possible is possible";

    // The audit log.
    NoKey = 194, "messages are kept, and no key seals them";
    BadKey = 195, "a public key that can't be used";
    SealsNothing = 196, "a key to which nothing is sealed";
    LogInReach = 197, "an audit log within a layer's reach";

    // What foreign programs see.
    HostProc = 201, "a grant of the host's processes";

    // Lives.
    StartCycle = 210, "layers that start after each other";

    // Hosts.
    UnknownHost = 220, "a host that is not defined";
    NoHost = 221, "a layer that runs on no host";
    Across = 222, "something that can't be between two hosts";
    NoWay = 223, "two hosts that can't reach each other";
}

impl Code {
    /// The code of a number, as in `E0107`, `e107` or `107`.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.trim_start_matches(['E', 'e']).parse::<u16>().ok()?;
        Self::ALL.iter().copied().find(|code| code.number() == number)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E{:04}", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn numbers_rise_and_titles_are_one_line() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
        assert!(Code::ALL.iter().all(|code| !code.title().contains('\n')));
        assert_eq!(Code::UnknownKey.to_string(), "E0107");
        assert_eq!(Code::parse("E0107"), Some(Code::UnknownKey));
        assert_eq!((Code::parse("E0164"), Code::parse(""), Code::parse("EE")), (None, None, None));
    }
}
