# Functions for set-ups with Debian's tgt, which emulates drives, changers and discs, and open-iscsi, which
# brings them to the kernel over the loopback device. To be sourced.
TGT_HOME=/var/lib/tgtlab
TGT_NAME=iqn.2001-04.org.example.lab

unit() { tgtadm --lld iscsi --mode logicalunit --op "$@"; }

# target NUMBER NAME: only this machine may log in.
target() {
    tgtadm --lld iscsi --mode target --op new --tid "$1" --targetname "$TGT_NAME:$2"
    tgtadm --lld iscsi --mode target --op bind --tid "$1" --initiator-address 127.0.0.1
}

# identity TARGET UNIT VENDOR PRODUCT REVISION SERIAL
identity() {
    unit update --tid "$1" --lun "$2" \
        --params "vendor_id=$3,product_id=$4,product_rev=$5,scsi_sn=$6,removable=1"
}

# cartridge BARCODE MEGABYTES KIND
cartridge() {
    tgtimg --op new --device-type tape --barcode "$1" --size "$2" --type "$3" \
        --file "$TGT_HOME/tapes/$1" >/dev/null
}

# changer TARGET UNIT MEDIA-FOLDER DRIVES MAIL-SLOTS SLOTS BARCODE...: drives are units 1, 2, ...; robot at
# element 1, mail slots from 16, drives from 256, slots from 4096.
changer() {
    local tid=$1 lun=$2 media=$3 drives=$4 mails=$5 slots=$6 number barcode element=4096
    shift 6
    truncate -s 1024 "$TGT_HOME/changer$tid"
    unit new --tid "$tid" --lun "$lun" --backing-store "$TGT_HOME/changer$tid" --device-type changer
    set_up() { unit update --tid "$tid" --lun "$lun" --params "$1"; }
    set_up "media_home=$media"
    set_up "element_type=1,start_address=1,quantity=1"
    set_up "element_type=3,start_address=16,quantity=$mails"
    set_up "element_type=4,start_address=256,quantity=$drives"
    for ((number = 1; number <= drives; number++)); do
        set_up "element_type=4,address=$((255 + number)),tid=$tid,lun=$number"
    done
    set_up "element_type=2,start_address=4096,quantity=$slots"
    for barcode in "$@"; do
        set_up "element_type=2,address=$((element++)),barcode=$barcode,sides=1"
    done
}

start_tgt() {
    modprobe -a scsi_mod sg ch iscsi_tcp "$@"
    mkdir -p "$TGT_HOME/tapes" "$TGT_HOME/discs"
    tgtd --iscsi portal=127.0.0.1:3260
    for _ in {1..100}; do
        tgtadm --mode system --op show >/dev/null 2>&1 && return
        sleep 0.1
    done
    echo "tgtd does not answer"
    return 1
}

# log_in NAME: the target's devices appear.
log_in() {
    if ! pgrep -x iscsid >/dev/null; then
        mkdir -p /etc/iscsi && echo "InitiatorName=$TGT_NAME:host" >/etc/iscsi/initiatorname.iscsi
        iscsid
    fi
    iscsiadm -m node -T "$TGT_NAME:$1" -p 127.0.0.1:3260 -o new
    iscsiadm -m node -T "$TGT_NAME:$1" -p 127.0.0.1:3260 -l
}

# wait_for TEST FILE: a device of that kind (-c, -b) is there.
wait_for() {
    for _ in {1..100}; do
        [ "$1" "$2" ] && return
        sleep 0.1
    done
    echo "$2 did not appear within 10 s; /dev has: $(cd /dev && echo st* nst* sr* sg* sch*)"
    return 1
}
