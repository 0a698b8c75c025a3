/** UTF-8 as RFC 3629 has it: no surrogates, nothing longer than it has to be. */
final class Utf8 {
    private Utf8() {
    }

    /** Where the bytes between two places cease to be text; -1 where they are. */
    static int wrong(byte[] bytes, int begin, int end) {
        for (int place = begin; place < end; ) {
            int length = sequence(bytes, place, end);
            if (length == 0) {
                return place;
            }
            place += length;
        }
        return -1;
    }

    /** The bytes of a code point, 0 where it is none. */
    private static int sequence(byte[] bytes, int place, int end) {
        int first = bytes[place] & 0xff;
        if (first < 0x80) {
            return 1;
        }
        int length = first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
        if (place + length > end) {
            return 0;
        }
        for (int more = 1; more < length; more++) {
            int one = bytes[place + more] & 0xff;
            int least = more > 1 ? 0x80 : first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
            int most = more > 1 ? 0xbf : first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
            if (one < least || one > most) {
                return 0;
            }
        }
        return length;
    }
}
