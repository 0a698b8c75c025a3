#!/usr/bin/env python3
"""What ekiben, picklescan and fickling say of the same pickles, good and malicious.

usage: compare-scanners.py EKIBEN ZOO [DOCUMENT]

Makes a corpus (nothing of it is ever loaded), asks all three, and puts the table between the marks of DOCUMENT. ZOO is a
folder of models that `scripts/zoo --make-only --into ZOO` made: those of its files that could name code are good as well. Needs the
packages numpy, pandas, scikit-learn, joblib, picklescan, fickling and typing-extensions. Ends with 1 where ekiben misses what another flags.
"""
import collections, datetime, decimal, glob, gzip, io, json, logging, os, pathlib, pickle, struct, subprocess, sys
import tempfile, uuid, warnings, zipfile, zlib

import joblib
import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


def good(d):
    """Models and data as people save them: in all protocols, and by joblib with each compression."""
    X=np.random.RandomState(0).rand(60,4); y=(X[:,0]>.5).astype(int)
    models=dict(lr=LogisticRegression().fit(X,y), rf=RandomForestClassifier(5).fit(X,y), gb=GradientBoostingClassifier(n_estimators=3).fit(X,y), pipe=make_pipeline(StandardScaler(),SVC()).fit(X,y), knn=KNeighborsClassifier().fit(X,y), km=KMeans(2,n_init=1).fit(X), nb=GaussianNB().fit(X,y), mlp=MLPClassifier((3,),max_iter=5).fit(X,y), df=pd.DataFrame(X,columns=list('abcd')), ser=pd.Series([1,2,3]), plain={'a':[1,2.5,None,True,'x',b'y',(1,),{3},frozenset({4}),2**100,-1]}, std=[collections.OrderedDict(a=1),collections.defaultdict(list),datetime.datetime.now(),datetime.timedelta(1),decimal.Decimal('1.5'),uuid.uuid4(),pathlib.PurePosixPath('a')], arr=X, objarr=np.array(['a',None,1],dtype=object), struct=np.zeros(3,dtype=[('a','i4'),('b','f8')]), rs=np.random.RandomState(1), gen=np.random.default_rng(1), dates=pd.DataFrame({'t':pd.date_range('2020',periods=3),'c':pd.Categorical(['a','b','a'])}))
    for n,m in models.items():
        for p in range(6):
            try: pickle.dump(m,open(f'{d}/{n}-{p}.pkl','wb'),protocol=p)
            except Exception as e: print(n,p,e)
        joblib.dump(m,f'{d}/{n}.joblib')
        for c in ('zlib','gzip','xz','lzma'):
            joblib.dump(m,f'{d}/{n}-{c}.joblib',compress=(c,3))
        np.savez(f'{d}/{n}.npz',X=X)
    np.save(f'{d}/a.npy',X)


def saved(zoo):
    """Files of the zoo's models that could name code, but for those that carry some, which is said of them."""
    for case in sorted(pathlib.Path(zoo).glob("*/case.json")):
        if json.loads(case.read_text())["code"]:
            continue
        for file in sorted(case.parent.glob("saved/**/*")):
            if file.is_file() and names_code(file):
                yield str(file)


def names_code(file):
    """Whether it is a pickle, an array, or an archive of pickles, of skops or of Keras; not one of TorchScript."""
    if zipfile.is_zipfile(file):
        names = zipfile.ZipFile(file).namelist()
        named = any(name.endswith((".pkl", ".npy")) or name in ("schema.json", "config.json") for name in names)
        return named and not any("/code/" in name for name in names)
    with open(file, "rb") as opened:
        head = opened.read(2)
    protocols = [bytes([0x80, number]) for number in range(2, 6)]
    return head in (*protocols, b"\x93N", b"\x1f\x8b", b"\x78\x9c", b"\x78\x5e")


def bad(d):
    """Every protocol, spelling and wrapping of what runs commands or reaches what does."""
    def w(n,b): open(os.path.join(d,n),'wb').write(b)
    T=[('posix','system'),('os','system'),('subprocess','Popen'),('subprocess','check_output'),('builtins','eval'),('builtins','exec'),('builtins','getattr'),('builtins','open'),('builtins','compile'),('builtins','__import__'),('runpy','_run_code'),('operator','attrgetter'),('functools','partial'),('importlib','import_module'),('shutil','rmtree'),('socket','create_connection'),('webbrowser','open'),('pty','spawn'),('pickle','loads'),('sys','exit'),('code','InteractiveInterpreter.runcode'),('timeit','timeit'),('ctypes','CDLL'),('numpy.testing._private.utils','runstring'),('torch.hub','load'),('urllib.request','urlopen'),('requests.api','get'),('pydoc','pipepager'),('cProfile','run'),('logging','FileHandler'),('_io','FileIO'),('asyncio','run'),('imaplib','IMAP4_stream'),('pkgutil','resolve_name'),('uuid','_get_command_stdout'),('distutils.file_util','write_file'),('torch.serialization','load'),('venv','create'),('types','CodeType'),('cloudpickle.cloudpickle','_make_function'),('multiprocessing.util','spawnv_passfds'),('tempfile','mktemp'),('marshal','loads'),('zipimport','zipimporter'),('_posixsubprocess','fork_exec'),('signal','signal'),('sqlite3','connect'),('smtplib','SMTP'),('nt','system'),('commands','getoutput')]
    def s(x):
        b=x.encode(); return b'\x8c'+bytes([len(b)])+b
    def bu(x):
        b=x.encode(); return b'X'+struct.pack('<I',len(b))+b
    arg=b"\x8c\x02id\x85R."
    for m,n in T:
        k=f'{m}.{n}'.replace('/','_')
        old='__builtin__' if m=='builtins' else m
        w(f'{k}-0.pkl',f"c{old}\n{n}\n(S'id'\ntR.".encode())
        w(f'{k}-1.pkl',f"c{old}\n{n}\n".encode()+b"(U\x02idtR.")
        w(f'{k}-2.pkl',b"\x80\x02"+f"c{old}\n{n}\n".encode()+b"X\x02\0\0\0id\x85R.")
        w(f'{k}-3.pkl',b"\x80\x03"+f"c{m}\n{n}\n".encode()+b"X\x02\0\0\0id\x85R.")
        w(f'{k}-4.pkl',b"\x80\x04"+s(m)+s(n)+b"\x93"+arg)
        w(f'{k}-5.pkl',b"\x80\x05"+s(m)+s(n)+b"\x93"+arg)
    m,n='posix','system'
    G=f"c{m}\n{n}\n".encode()
    tricks={
     'inst':f"(S'id'\ni{m}\n{n}\n.".encode(),
     'obj':b"("+G+b"S'id'\no.",
     'newobj':b"\x80\x02"+G+b"U\x02id\x85\x81.",
     'newobj-ex':b"\x80\x04"+s(m)+s(n)+b"\x93"+s('id')+b"\x85}\x92.",
     'memo-get':b"\x80\x04"+s(m)+b"\x940"+s(n)+b"\x940h\x00h\x01\x93"+arg,
     'memo-swap':b"\x80\x04"+s(n)+b"q\x05"+s(m)+b"q\x06"+b"00h\x06h\x05\x93"+arg,
     'memo-overwrite':b"\x80\x04"+s('collections')+b"q\x00"+s(m)+b"q\x000"+b"0h\x00"+s(n)+b"\x93"+arg,
     'memo-mixed':b"\x80\x04"+s('a')+b"r\x05\0\0\0"+s(m)+b"\x94"+s(n)+b"h\x01"+b"q\x09"+s(n)+b"\x93"+arg,
     'dup':b"\x80\x04"+s(m)+b"2"+s(n)+b"\x93"+arg,
     'pop':b"\x80\x04"+s(m)+s('x')+b"0"+s(n)+b"\x93"+arg,
     'pop-mark':b"\x80\x04"+s(m)+b"("+s('x')+s('y')+b"1"+s(n)+b"\x93"+arg,
     'escapes':b"S'p\\x6fsix'\nS'sys\\164em'\n\x93(S'id'\ntR.",
     'unicode-escapes':b"V\\u0070osix\nV\\u0073ystem\n\x93(S'id'\ntR.",
     'long-strings':b"\x80\x04\x8d"+struct.pack('<Q',5)+b"posix"+b"X\x06\0\0\0system\x93"+arg,
     'after-stop':b"N."+G+b"(S'id'\ntR.",
     'no-stop':G+b"(S'id'\ntR",
     'broken-after':G+b"(S'id'\ntR\xff\xff",
     'bad-get-after':G+b"(S'id'\ntRh\x63.",
     'stack-underflow':G+b"(S'id'\ntR00000.",
     'in-dict':b"\x80\x02}U\x01a"+G+b"U\x02id\x85Rs.",
     'as-state':b"\x80\x02ccollections\nOrderedDict\n)R"+G+b"U\x02id\x85Rb.",
     'persid':b"\x80\x02U\x01xQ0"+G+b"U\x02id\x85R.",
     'frames':b"\x80\x04\x95\x07\0\0\0\0\0\0\0"+s(m)+b"\x95\xff\0\0\0\0\0\0\0"+s(n)+b"\x93"+arg,
     'dotted':b"\x80\x04"+s('collections')+s('abc.sys.modules')+b"\x93"+arg,
     'dotted-os':b"\x80\x04"+s('torch.serialization')+s('os.system')+b"\x93"+arg,
     'dotted-shutil':b"\x80\x04"+s('sklearn.datasets._base')+s('shutil.rmtree')+b"\x93"+arg,
     'nested-bytes':b"\x80\x04"+s('_pickle')+s('loads')+b"\x93C\x1d\x80\x04"+s(m)+s(n)+b"\x93"+b"\x8c\x02id\x85R."+b"......"[:29-len(b"\x80\x04"+s(m)+s(n)+b"\x93\x8c\x02id\x85R.")]+b"\x85R.",
     'many-strings':b"\x80\x04("+b"".join(s('x%d'%i)+b"\x94" for i in range(3000))+b"1"+s(m)+s(n)+b"\x93"+arg,
     'extension':b"\x80\x02\x82\x01U\x02id\x85R.",
     'whitespace-global':b"c posix\nsystem\n(S'id'\ntR.",
    }
    for k,b in tricks.items(): w('trick-'+k+'.pkl',b)
    P=b"\x80\x04"+s(m)+s(n)+b"\x93"+arg
    w('renamed.bin',P); w('renamed.dat',P); w('renamed.joblib',P)
    w('joblib-zlib.joblib',zlib.compress(P)); w('joblib-gzip.joblib',gzip.compress(P))
    w('joblib-zlib-renamed.pkl',zlib.compress(P))
    for c,nm in ((zipfile.ZIP_STORED,'stored'),(zipfile.ZIP_DEFLATED,'deflated')):
        b=io.BytesIO()
        with zipfile.ZipFile(b,'w',c) as z: z.writestr('archive/data.pkl',P); z.writestr('archive/version','3\n')
        w(f'torch-{nm}.pt',b.getvalue())
    b=io.BytesIO()
    with zipfile.ZipFile(b,'w') as z: z.writestr('archive/data.pkl',b'N.'); z.writestr('archive/hidden.txt',P)
    w('torch-hidden-member.pt',b.getvalue())
    class E:
        def __reduce__(self): return (os.system,('id',))
    np.save(os.path.join(d,'object.npy'),np.array([E()],dtype=object),allow_pickle=True)
    np.savez(os.path.join(d,'object.npz'),a=np.array([E()],dtype=object))
    joblib.dump({'a':np.arange(1000.),'b':E()},os.path.join(d,'after-array.joblib'))
    joblib.dump({'a':np.arange(1000.),'b':E()},os.path.join(d,'after-array-zlib.joblib'),compress=3)
    joblib.dump(np.array([E()],dtype=object),os.path.join(d,'object-array.joblib'))


def ask_ekiben(program, files):
    run = subprocess.run([program, "validate", "--output", "json", *files], capture_output=True, text=True)
    said = dict.fromkeys(files, "silent")
    for diagnostic in json.loads(run.stdout)["diagnostics"]:
        if diagnostic["severity"] == "error" or said[diagnostic["file"]] == "silent":
            said[diagnostic["file"]] = "flagged" if diagnostic["severity"] == "error" else "doubtful"
    return said


def ask_picklescan(file):
    from picklescan.scanner import scan_file_path
    try:
        result = scan_file_path(file)
    except Exception:
        return "failed"
    if result.issues_count:
        return "flagged"
    if result.scan_err:
        return "failed"
    return "doubtful" if any(found.safety.value == "suspicious" for found in result.globals) else "silent"


def ask_fickling(file):
    from fickling.analysis import check_safety
    from fickling.fickle import StackedPickle
    try:
        with open(file, "rb") as opened:
            pickles = StackedPickle.load(opened.read(), fail_on_decode_error=False)
        worst = max((check_safety(found).severity.value[0] for found in pickles), default=0)
    except Exception:
        return "failed"
    return "silent" if worst == 0 else "doubtful" if worst < 4 else "flagged"


def main():
    program = os.path.abspath(sys.argv[1])
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    rows, missed = [], []
    with tempfile.TemporaryDirectory() as folder:
        for kind, make in (("good", good), ("malicious", bad)):
            d = os.path.join(folder, kind)
            os.makedirs(d)
            make(d)
            files = sorted(glob.glob(d + "/*"))
            if kind == "good":
                files += saved(sys.argv[2])
            answers = {"ekiben": ask_ekiben(program, files)}
            answers["picklescan"] = {file: ask_picklescan(file) for file in files}
            answers["fickling"] = {file: ask_fickling(file) for file in files}
            for name, said in answers.items():
                count = collections.Counter(said.values())
                rows.append([f"{len(files)} {kind}", name] + [count[a] for a in ("flagged", "doubtful", "silent", "failed")])
            if kind == "malicious":
                others = [answers["picklescan"], answers["fickling"]]
                missed = [f for f in files if answers["ekiben"][f] != "flagged" and any(o[f] == "flagged" for o in others)]
    table = "| files | scanner | flagged | doubtful | silent | gave up |\n|---|---|---|---|---|---|\n"
    table += "".join("| " + " | ".join(map(str, row)) + " |\n" for row in rows)
    print(table, end="")
    for file in missed:
        print("missed:", os.path.basename(file))
    if len(sys.argv) > 3:
        with open(sys.argv[3], encoding="utf-8") as opened:
            before, _, rest = opened.read().partition("<!-- scanners -->\n")
        _, _, after = rest.partition("<!-- /scanners -->")
        with open(sys.argv[3], "w", encoding="utf-8") as opened:
            opened.write(f"{before}<!-- scanners -->\n{table}<!-- /scanners -->{after}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
