import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;

/** How much is done at once: so many take a place, and so many wait for one, in order. */
final class Load {
    private final int most;
    private final int queue;
    private final Deque<Work> waiting = new ArrayDeque<>();
    private int taken;
    /** Seconds that work took lately. */
    private double usual;

    Load(int most, int queue) {
        this.most = most;
        this.queue = queue;
    }

    /** Throws where nobody more can wait. Who has gone holds no place in the queue that another needs. */
    synchronized void check() throws Busy {
        if (taken >= most && waiting.size() >= queue) {
            waiting.removeIf(Work::isGone);
            if (waiting.size() >= queue) {
                throw new Busy(wait(waiting.size()));
            }
        }
    }

    /** Whether there is a place for work at once; else it waits for one. */
    synchronized boolean enter(Work work) throws Busy {
        if (taken < most) {
            taken++;
            return work.begin();
        }
        check();
        waiting.add(work);
        return false;
    }

    /** Hands a place on, after so many seconds of work: what is to begin now. */
    synchronized List<Work> leave(double seconds) {
        usual += (seconds - usual) / 8;
        taken--;
        List<Work> next = new ArrayList<>();
        while (taken < most && !waiting.isEmpty()) {
            Work work = waiting.poll();
            if (work.begin()) {
                taken++;
                next.add(work);
            }
        }
        return next;
    }

    synchronized int waiting() {
        return waiting.size();
    }

    /** When it would be the turn of one who came now. */
    synchronized Busy late() {
        return new Busy(wait(waiting.size()));
    }

    private double wait(int before) {
        return usual * (before + 1) / most;
    }
}
